package signing

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// handover is how long agents accept the old key after the control planes have begun to
// sign with the new one, or the length of the overlap, if that is shorter: the control planes do not begin at the same moment, and orders
// may be on their way.
const handover = time.Hour

// Rotation describes a new key.
type Rotation struct {
	// Key is the id of the new key.
	Key string
	// SignsFrom is when the control planes begin to sign with it, Retires when agents no
	// longer accept the old one.
	SignsFrom, Retires time.Time
}

// RotateOptions configure Rotate.
type RotateOptions struct {
	// Overlap is how long the control planes continue to sign with the old key. In this
	// time agents learn the new key, and accept both. If it is zero, agents do not accept
	// the old key any more as soon as they learn the new one.
	Overlap time.Duration
	// Lost replaces keys whose private part is lost. Every agent must enrol again.
	Lost bool
}

// Rotate writes a new key to the file, and then its public part and its endorsement by
// the old key to the database. A call after a crash begins again, with another key.
func Rotate(ctx context.Context, o Options, r RotateOptions) (Rotation, error) {
	orders, callbacks, err := o.records(ctx)
	if err != nil {
		return Rotation{}, err
	}
	now, err := o.Store.Now(ctx)
	if err != nil {
		return Rotation{}, err
	}
	last := orders[len(orders)-1]
	if r.Overlap > 0 && last.SignsFrom.After(now) {
		return Rotation{}, fmt.Errorf("a rotation is under way until %s; to sign with another key at once, use --overlap 0s", last.SignsFrom.UTC().Format(time.RFC3339))
	}
	file, err := readFile(o.File)
	isNew := errors.Is(err, fs.ErrNotExist)
	if err != nil && !isNew {
		return Rotation{}, err
	}
	old := file.private(last.Public)
	if err := r.check(old != nil, last, o.File); err != nil {
		return Rotation{}, err
	}
	private := newOrderKey()
	next := r.next(last, private, now)
	next.Origin = origin(o.File)
	if old != nil {
		e := tasker.Endorsement{Key: next.Public, Retires: *next.Retires}
		e.Sign(old)
		next.Signature = e.Signature
	}
	file.dropRetired(orders, now)
	file.orders = append(file.orders, private)
	added := []store.SigningKey{next}
	if r.Lost && file.callback == nil {
		file.callback = newCallbackSecret()
		added = append(added, store.SigningKey{
			Name: store.CallbackKeys, Generation: len(callbacks) + 1, Public: digest(file.callback), Origin: next.Origin,
		})
	}
	if isNew {
		err = file.create(o.File)
	} else {
		err = file.replace(o.File)
	}
	if err != nil {
		return Rotation{}, err
	}
	err = o.Store.AddSigningKeys(ctx, added...)
	switch {
	case errors.Is(err, store.ErrGenerationExists):
		return Rotation{}, errors.New("another rotation has stored a key at the same time; run the command again")
	case err != nil:
		return Rotation{}, fmt.Errorf("store the new key: %w", err)
	}
	return Rotation{Key: tasker.KeyID(next.Public), SignsFrom: next.SignsFrom, Retires: *next.Retires}, nil
}

// check returns an error if the options do not suit the file.
func (r RotateOptions) check(hasKey bool, last store.SigningKey, path string) error {
	switch {
	case !hasKey && !r.Lost:
		return fmt.Errorf("%w; if it is lost, use --lost, after which every agent must enrol again", missingError("private key", path, last))
	case hasKey && r.Lost:
		return fmt.Errorf("%s contains the private key of %s; rotate without --lost", path, tasker.KeyID(last.Public))
	}
	return nil
}

// next returns the record of the next key, without its endorsement.
func (r RotateOptions) next(last store.SigningKey, private ed25519.PrivateKey, now time.Time) store.SigningKey {
	overlap := r.Overlap
	if r.Lost {
		overlap = 0
	}
	from := now.Add(overlap)
	retires := from.Add(min(overlap, handover))
	return store.SigningKey{
		Name: store.OrderKeys, Generation: last.Generation + 1, Public: publicKey(private), CreatedAt: now, SignsFrom: from, Retires: &retires,
	}
}

// dropRetired drops the keys that agents no longer accept, and keys that the database does
// not know.
func (f *keyFile) dropRetired(orders []store.SigningKey, now time.Time) {
	var kept []ed25519.PrivateKey
	for i, key := range orders {
		private := f.private(key.Public)
		if private != nil && (i+1 == len(orders) || orders[i+1].Retires.After(now)) {
			kept = append(kept, private)
		}
	}
	f.orders = kept
}
