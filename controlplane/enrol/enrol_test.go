package enrol_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/enrol"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
)

// broker keeps accounts as a message queue does; it can be away.
type broker struct {
	mu       sync.Mutex
	accounts map[string]string
	away     error
	// admitted is called when an account has been made.
	admitted func()
}

func (b *broker) Admit(_ context.Context, endpoint, secret string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away != nil {
		return "", b.away
	}
	if b.admitted != nil {
		b.admitted()
	}
	b.accounts[endpoint] = secret
	return "amqp://broker/tasker", nil
}

func (b *broker) Expel(_ context.Context, endpoint string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away == nil {
		delete(b.accounts, endpoint)
	}
	return b.away
}

func (b *broker) has(endpoint string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.accounts[endpoint] != ""
}

type fixture struct {
	*enrol.Service
	store        *store.Store
	broker       *broker
	log          *bytes.Buffer
	disconnected []string
}

// start makes a Service on a database of its own, with a message queue unless
// changed.
func start(t *testing.T, change func(*enrol.Options)) *fixture {
	t.Helper()
	f := &fixture{store: storetest.Open(t, storetest.SQLite(t)), broker: &broker{accounts: map[string]string{}}, log: &bytes.Buffer{}}
	o := enrol.Options{
		Store: f.store, Broker: f.broker, Log: slog.New(slog.NewTextHandler(f.log, nil)),
		Disconnect: func(endpoint string) { f.disconnected = append(f.disconnected, endpoint) },
	}
	if change != nil {
		change(&o)
	}
	var err error
	if f.Service, err = enrol.New(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) token(t *testing.T, uses int) string {
	t.Helper()
	token, err := f.CreateToken(t.Context(), time.Hour, uses, "admin")
	if err != nil {
		t.Fatal(err)
	}
	return token.Token
}

// request is one of an endpoint whose secret is made of the letter.
func request(endpoint, letter string) tasker.EnrolRequest {
	return tasker.EnrolRequest{Endpoint: endpoint, Secret: strings.Repeat(letter, 43)}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	made, err := f.CreateToken(t.Context(), time.Hour, 50, "admin")
	if err != nil || !strings.HasPrefix(made.Token, "tasker-enrol-") || len(made.Token) != len("tasker-enrol-")+43 ||
		made.ExpiresAt.Sub(made.CreatedAt) != time.Hour || made.MaxUses != 50 || made.CreatedBy != "admin" {
		t.Errorf("created %+v, %v", made, err)
	}
	f.token(t, 1)
	list, err := f.Tokens(t.Context())
	if err != nil || len(list) != 2 || list[1].ID != made.ID || list[0].Token+list[1].Token != "" {
		t.Errorf("listed %+v, %v", list, err)
	}
	if err := f.RevokeToken(t.Context(), made.ID); err != nil {
		t.Error(err)
	}
	if _, _, err := f.Enrol(t.Context(), made.Token, request("web-1", "a")); !errors.Is(err, enrol.ErrToken) || strings.Contains(err.Error(), made.Token) {
		t.Errorf("enrolled with a revoked token: %v", err)
	}
	if err := f.RevokeToken(t.Context(), "unknown"); !errors.Is(err, enrol.ErrNotFound) {
		t.Errorf("revoked what is not there: %v", err)
	}
	if strings.Contains(f.log.String(), made.Token) {
		t.Errorf("the token is in the log: %s", f.log)
	}
	for ttl, uses := range map[time.Duration]int{time.Second: 1, 721 * time.Hour: 1, time.Hour: 0, 2 * time.Hour: 100_001} {
		if _, err := f.CreateToken(t.Context(), ttl, uses, ""); !errors.Is(err, enrol.ErrInvalid) {
			t.Errorf("a token for %d in %s: %v", uses, ttl, err)
		}
	}
}

func TestEnrol(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	token, ctx := f.token(t, 2), t.Context()
	e, repeated, err := f.Enrol(ctx, token, request("web-1", "a"))
	if err != nil || repeated || e.Endpoint != "web-1" || e.Server != "amqp://broker/tasker" || len(e.Keys) != 1 || !f.broker.has("web-1") {
		t.Fatalf("enrolled %+v, %t, %v", e, repeated, err)
	}
	order := tasker.Order{Endpoint: "web-1", Welcome: &tasker.Welcome{Session: "s"}}
	if err := order.Sign(f.Key()); err != nil {
		t.Fatal(err)
	}
	if err := order.Verify([]ed25519.PublicKey{e.Keys[0]}); err != nil {
		t.Errorf("an order signed here: %v", err)
	}
	if _, repeated, err := f.Enrol(ctx, token, request("web-1", "a")); err != nil || !repeated {
		t.Errorf("the same again: %t, %v", repeated, err)
	}
	_, _, err = f.Enrol(ctx, token, request("web-1", "b"))
	if !errors.Is(err, enrol.ErrTaken) || !strings.Contains(err.Error(), "tasker endpoint revoke web-1") || !strings.Contains(err.Error(), "--endpoint") {
		t.Errorf("another server: %v, want ErrTaken and what to do", err)
	}
	for _, bad := range []tasker.EnrolRequest{request("Web 1", "a"), request("web-2", "!"), {Endpoint: "web-2", Secret: "short"}} {
		if _, _, err := f.Enrol(ctx, token, bad); !errors.Is(err, enrol.ErrInvalid) {
			t.Errorf("enrolling %+v: %v", bad, err)
		}
	}
	if name, err := f.Identify(ctx, strings.Repeat("a", 43)); name != "web-1" || err != nil {
		t.Errorf("identified %q, %v", name, err)
	}
	for _, secret := range []string{"", token, strings.Repeat("b", 43)} {
		if name, err := f.Identify(ctx, secret); !errors.Is(err, enrol.ErrNotFound) {
			t.Errorf("%q is that of %q, %v", secret, name, err)
		}
	}
}

// What was stored before the message queue went away is completed by repeating.
func TestBrokerAway(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	token, ctx := f.token(t, 1), t.Context()
	f.broker.away = errors.New("connection refused")
	if _, _, err := f.Enrol(ctx, token, request("web-1", "a")); !errors.Is(err, enrol.ErrBroker) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("enrolled: %v", err)
	}
	f.broker.away = nil
	if e, repeated, err := f.Enrol(ctx, token, request("web-1", "a")); err != nil || !repeated || e.Server == "" || !f.broker.has("web-1") {
		t.Errorf("enrolled again: %+v, %t, %v", e, repeated, err)
	}
	f.broker.away = errors.New("connection refused")
	if err := f.Revoke(ctx, "web-1", "admin"); !errors.Is(err, enrol.ErrBroker) || !strings.Contains(err.Error(), "is revoked here") {
		t.Errorf("revoked: %v", err)
	}
	if _, err := f.Identify(ctx, strings.Repeat("a", 43)); !errors.Is(err, enrol.ErrNotFound) {
		t.Errorf("identified after the revoke: %v", err)
	}
	f.broker.away = nil
	if err := f.Revoke(ctx, "web-1", "admin"); err != nil || f.broker.has("web-1") {
		t.Errorf("revoked again: %v, an account: %t", err, f.broker.has("web-1"))
	}
}

// A revoke between what the database and what the message queue is told leaves no
// account behind.
func TestRevokedWhileEnrolling(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	token := f.token(t, 1)
	f.broker.admitted = func() {
		if _, err := f.store.RevokeEndpoint(t.Context(), "web-1", "admin"); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := f.Enrol(t.Context(), token, request("web-1", "a")); !errors.Is(err, enrol.ErrRevoked) || f.broker.has("web-1") {
		t.Errorf("enrolled: %v, an account: %t", err, f.broker.has("web-1"))
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	token, ctx := f.token(t, 2), t.Context()
	for _, ask := range []func(context.Context, string) error{f.Shared, f.Own} {
		if err := ask(ctx, "web-1"); err != nil {
			t.Errorf("before it is enrolled: %v", err)
		}
	}
	if _, _, err := f.Enrol(ctx, token, request("web-1", "a")); err != nil {
		t.Fatal(err)
	}
	if shared, own := f.Shared(ctx, "web-1"), f.Own(ctx, "web-1"); !errors.Is(shared, enrol.ErrTaken) || own != nil {
		t.Errorf("enrolled: shared %v, own %v", shared, own)
	}
	if err := f.Revoke(ctx, "web-1", "admin"); err != nil || f.broker.has("web-1") || !slices.Equal(f.disconnected, []string{"web-1"}) {
		t.Errorf("revoked: %v, an account: %t, disconnected: %q", err, f.broker.has("web-1"), f.disconnected)
	}
	if shared, own := f.Shared(ctx, "web-1"), f.Own(ctx, "web-1"); !errors.Is(shared, enrol.ErrRevoked) || !errors.Is(own, enrol.ErrRevoked) {
		t.Errorf("revoked: shared %v, own %v", shared, own)
	}
	if _, _, err := f.Enrol(ctx, token, request("web-1", "a")); !errors.Is(err, enrol.ErrRevoked) {
		t.Errorf("enrolled with the revoked secret: %v", err)
	}
	if _, repeated, err := f.Enrol(ctx, token, request("web-1", "b")); err != nil || repeated || f.Own(ctx, "web-1") != nil {
		t.Errorf("enrolled anew: %t, %v", repeated, err)
	}
	for _, name := range []string{"unknown", "Not A Name"} {
		if err := f.Revoke(ctx, name, "admin"); !errors.Is(err, enrol.ErrNotFound) {
			t.Errorf("revoked %q: %v", name, err)
		}
	}
	if log := f.log.String(); strings.Contains(log, token) || strings.Contains(log, strings.Repeat("a", 43)) {
		t.Errorf("a secret is in the log: %s", log)
	}
}

func TestOverHTTP(t *testing.T) {
	t.Parallel()
	f := start(t, func(o *enrol.Options) { o.Broker = nil })
	e, _, err := f.Enrol(t.Context(), f.token(t, 1), request("web-1", "a"))
	if err != nil || e.Server != "" {
		t.Errorf("enrolled %+v, %v", e, err)
	}
	if err := f.Revoke(t.Context(), "web-1", "admin"); err != nil {
		t.Error(err)
	}
}

func TestUnsupported(t *testing.T) {
	t.Parallel()
	f := start(t, func(o *enrol.Options) { o.Broker, o.Unsupported = nil, true })
	if _, _, err := f.Enrol(t.Context(), f.token(t, 1), request("web-1", "a")); !errors.Is(err, enrol.ErrUnsupported) {
		t.Errorf("enrolled: %v", err)
	}
}

func TestControlPlanesShareTheKey(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	again, err := enrol.New(t.Context(), enrol.Options{Store: f.store, Log: slog.New(slog.DiscardHandler)})
	if err != nil || !again.Key().Equal(f.Key()) {
		t.Errorf("another key, %v", err)
	}
	if other := start(t, nil); other.Key().Equal(f.Key()) {
		t.Error("two databases have one key")
	}
}
