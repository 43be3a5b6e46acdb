package store

import (
	"context"
	"errors"
)

// SigningKeys stores the keys that the control plane signs with.
type SigningKeys struct{ db *database }

// SigningKey returns the seed of the key that signs orders. If there is none yet, it
// stores the offered one. All control planes get the same key.
func (k *SigningKeys) SigningKey(ctx context.Context, offered [32]byte) ([]byte, error) {
	return k.key(ctx, "orders", offered)
}

// CallbackKey returns the seed of the key that signs callbacks. If there is none yet,
// it stores the offered one. All control planes get the same key.
func (k *SigningKeys) CallbackKey(ctx context.Context, offered [32]byte) ([]byte, error) {
	return k.key(ctx, "callbacks", offered)
}

func (k *SigningKeys) key(ctx context.Context, name string, offered [32]byte) ([]byte, error) {
	const query = "SELECT seed FROM signing_keys WHERE name = ?"
	var seed []byte
	err := k.db.Reader().QueryRow(ctx, query, []any{name}, &seed)
	if errors.Is(err, ErrNotFound) {
		err = k.db.update(ctx, "create a signing key", func(tx *tx) error {
			row := []any{name, offered[:], tx.Now}
			if err := tx.InsertMissing(ctx, "signing_keys", []string{"name", "seed", "created_at"}, 1, [][]any{row}); err != nil {
				return err
			}
			return tx.QueryRow(ctx, query+tx.ForUpdate, []any{name}, &seed)
		})
	}
	return seed, k.db.Wrap("read a signing key", err)
}
