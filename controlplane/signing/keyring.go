package signing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// refreshInterval is how often Run reads the file and the database. It is much shorter
// than handover.
const refreshInterval = 30 * time.Second

// Keyring signs orders and callbacks. It is safe for concurrent use.
type Keyring struct {
	opts  Options
	loop  *backoff.Loop
	state atomic.Pointer[state]
	// warned is the last warning that was logged. Only Refresh uses it.
	warned string
}

// Open reads the keys, and creates the missing ones at the first start. The error wraps
// ErrMissing if another control plane has created them and the file was not copied.
func Open(ctx context.Context, o Options) (*Keyring, error) {
	if err := o.install(ctx); err != nil {
		return nil, err
	}
	k := &Keyring{opts: o, loop: backoff.NewLoop(backoff.LoopOptions{
		Interval: refreshInterval, Log: o.Log,
		Failing: "the signing keys cannot be read again; trying again", Recovered: "the signing keys were read again",
	})}
	if err := k.Refresh(ctx); err != nil {
		return nil, err
	}
	return k, nil
}

// Run reads the file and the database again from time to time, until ctx is done.
func (k *Keyring) Run(ctx context.Context) error {
	return k.loop.Run(ctx, func(ctx context.Context) (bool, error) { return false, k.Refresh(ctx) })
}

// Wake makes Run read the file and the database now. It never blocks.
func (k *Keyring) Wake() { k.loop.Wake() }

// Refresh reads the file and the database. After an error that wraps ErrMissing, the
// Keyring signs with an older key as long as agents accept it; after another error, it is
// unchanged. Refresh must not be called concurrently.
func (k *Keyring) Refresh(ctx context.Context) error {
	next, err := k.opts.read(ctx)
	if err != nil {
		return err
	}
	if last := k.state.Swap(next); last != nil && !last.current.Equal(next.current) && next.current != nil {
		k.opts.Log.Info("orders are signed with another key", "key", tasker.KeyID(publicKey(next.current)))
	}
	k.opts.Store.SetNewestKey(next.newest)
	if next.warning != k.warned {
		if k.warned = next.warning; next.warning != "" {
			k.opts.Log.Warn("a rotation of the signing key is incomplete", "reason", next.warning)
		}
	}
	return next.problem
}

// read returns the state of the file and the database.
func (o Options) read(ctx context.Context) (*state, error) {
	file, err := readFile(o.File)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	orders, callbacks, err := o.records(ctx)
	if err != nil {
		return nil, err
	}
	now, err := o.Store.Now(ctx)
	if err != nil {
		return nil, err
	}
	return newState(file, o.File, orders, callbacks, now), nil
}

// records returns the records of the database, oldest first; there is one of each name.
func (o Options) records(ctx context.Context) (orders, callbacks []store.SigningKey, err error) {
	if orders, err = o.Store.ListSigningKeys(ctx, store.OrderKeys); err != nil {
		return nil, nil, err
	}
	if callbacks, err = o.Store.ListSigningKeys(ctx, store.CallbackKeys); err != nil {
		return nil, nil, err
	}
	if len(orders) == 0 || len(callbacks) == 0 {
		return nil, nil, fmt.Errorf("%w: the database is new or was reset; start the control plane, which creates the keys", ErrMissing)
	}
	return orders, callbacks, nil
}

// Sign signs the order. It first adds the endorsements to a welcome, which is not changed
// itself but replaced. The error wraps ErrMissing if there is no key that agents accept.
func (k *Keyring) Sign(o *tasker.Order) error {
	s := k.state.Load()
	if s.current == nil {
		return s.problem
	}
	if o.Welcome != nil && len(s.endorsements) > 0 {
		welcome := *o.Welcome
		welcome.Keys = s.endorsements
		o.Welcome = &welcome
	}
	return o.Sign(s.current)
}

// PublicKeys returns the public keys that agents accept, oldest first.
func (k *Keyring) PublicKeys() [][]byte { return k.state.Load().accepted }

// CallbackSecret returns the secret that signs callbacks.
func (k *Keyring) CallbackSecret() []byte { return k.state.Load().callback }

// Check returns an error that wraps ErrMissing if a key that is needed now is missing.
func (k *Keyring) Check(context.Context) error { return k.state.Load().problem }
