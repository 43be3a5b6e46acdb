package auth_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/auth"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
)

// fakeBroker keeps accounts as a message queue does.
type fakeBroker struct {
	mu       sync.Mutex
	accounts map[string]string
	// err is what CreateAccount and DeleteAccount return; nil is success.
	err error
	// onCreate is called before an account is stored.
	onCreate func()
}

func (b *fakeBroker) CreateAccount(_ context.Context, endpoint, secret string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return "", b.err
	}
	if b.onCreate != nil {
		b.onCreate()
	}
	b.accounts[endpoint] = secret
	return "amqp://broker/tasker", nil
}

func (b *fakeBroker) DeleteAccount(_ context.Context, endpoint string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		delete(b.accounts, endpoint)
	}
	return b.err
}

func (b *fakeBroker) has(endpoint string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.accounts[endpoint] != ""
}

type fixture struct {
	*auth.Enroller
	store        *store.Store
	broker       *fakeBroker
	log          *bytes.Buffer
	disconnected []string
}

// newFixture returns an Enroller on a database of its own, with a fakeBroker unless
// configure removes it.
func newFixture(t *testing.T, configure func(*auth.EnrollerOptions)) *fixture {
	t.Helper()
	f := &fixture{store: storetest.Open(t, storetest.SQLite(t)), broker: &fakeBroker{accounts: map[string]string{}}, log: &bytes.Buffer{}}
	o := auth.EnrollerOptions{
		Store: f.store, Keys: func() [][]byte { return [][]byte{{1}, {2}} }, Broker: f.broker, Log: slog.New(slog.NewTextHandler(f.log, nil)),
		Disconnect: func(endpoint string) { f.disconnected = append(f.disconnected, endpoint) },
	}
	if configure != nil {
		configure(&o)
	}
	f.Enroller = auth.NewEnroller(o)
	return f
}

func (f *fixture) token(t *testing.T, uses int) string {
	t.Helper()
	token, err := f.CreateToken(t.Context(), time.Hour, uses, nil, "admin")
	if err != nil {
		t.Fatal(err)
	}
	return token.Token
}

// enrolRequest returns a request whose secret repeats the letter.
func enrolRequest(endpoint, letter string) tasker.EnrolRequest {
	return tasker.EnrolRequest{Endpoint: endpoint, Secret: strings.Repeat(letter, 43)}
}

func TestEnrolTokens(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	created, err := f.CreateToken(t.Context(), time.Hour, 50, nil, "admin")
	if err != nil || !strings.HasPrefix(created.Token, "tasker-enrol-") || len(created.Token) != len("tasker-enrol-")+43 ||
		created.ExpiresAt.Sub(created.CreatedAt) != time.Hour || created.MaxUses != 50 || created.CreatedBy != "admin" {
		t.Errorf("created %+v, %v", created, err)
	}
	f.token(t, 1)
	list, err := f.Tokens(t.Context())
	if err != nil || len(list) != 2 || list[1].ID != created.ID || list[0].Token+list[1].Token != "" {
		t.Errorf("listed %+v, %v", list, err)
	}
	if err := f.RevokeToken(t.Context(), created.ID); err != nil {
		t.Error(err)
	}
	if _, _, err := f.Enrol(t.Context(), created.Token, enrolRequest("web-1", "a")); !errors.Is(err, auth.ErrToken) || strings.Contains(err.Error(), created.Token) {
		t.Errorf("enrolled with a revoked token: %v", err)
	}
	if err := f.RevokeToken(t.Context(), "unknown"); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("revoked an unknown token: %v", err)
	}
	if strings.Contains(f.log.String(), created.Token) {
		t.Errorf("the token is in the log: %s", f.log)
	}
	for ttl, uses := range map[time.Duration]int{time.Second: 1, 721 * time.Hour: 1, time.Hour: 0, 2 * time.Hour: 100_001} {
		if _, err := f.CreateToken(t.Context(), ttl, uses, nil, ""); !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("a token for %d in %s: %v", uses, ttl, err)
		}
	}
}

func TestEnrol(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	token, ctx := f.token(t, 2), t.Context()
	e, repeated, err := f.Enrol(ctx, token, enrolRequest("web-1", "a"))
	if err != nil || repeated || e.Endpoint != "web-1" || e.Server != "amqp://broker/tasker" || len(e.Keys) != 2 || !f.broker.has("web-1") {
		t.Fatalf("enrolled %+v, %t, %v", e, repeated, err)
	}
	if e.Keys[0][0] != 1 || e.Keys[1][0] != 2 {
		t.Errorf("the keys are %v", e.Keys)
	}
	if _, repeated, err := f.Enrol(ctx, token, enrolRequest("web-1", "a")); err != nil || !repeated {
		t.Errorf("the repeated request: %t, %v", repeated, err)
	}
	_, _, err = f.Enrol(ctx, token, enrolRequest("web-1", "b"))
	if !errors.Is(err, auth.ErrTaken) || !strings.Contains(err.Error(), "tasker endpoint revoke web-1") || !strings.Contains(err.Error(), "--endpoint") {
		t.Errorf("another server: %v, want ErrTaken with advice", err)
	}
	for _, bad := range []tasker.EnrolRequest{enrolRequest("Web 1", "a"), enrolRequest("web-2", "!"), {Endpoint: "web-2", Secret: "short"}} {
		if _, _, err := f.Enrol(ctx, token, bad); !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("enrolling %+v: %v", bad, err)
		}
	}
	if name, err := f.Identify(ctx, strings.Repeat("a", 43)); name != "web-1" || err != nil {
		t.Errorf("identified %q, %v", name, err)
	}
	for _, secret := range []string{"", token, strings.Repeat("b", 43)} {
		if name, err := f.Identify(ctx, secret); !errors.Is(err, auth.ErrNotFound) {
			t.Errorf("%q belongs to %q, %v", secret, name, err)
		}
	}
}

// Repeating a call completes what an unreachable message queue interrupted.
func TestUnreachableBroker(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	token, ctx := f.token(t, 1), t.Context()
	f.broker.err = errors.New("connection refused")
	if _, _, err := f.Enrol(ctx, token, enrolRequest("web-1", "a")); !errors.Is(err, auth.ErrBroker) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("enrolled: %v", err)
	}
	f.broker.err = nil
	if e, repeated, err := f.Enrol(ctx, token, enrolRequest("web-1", "a")); err != nil || !repeated || e.Server == "" || !f.broker.has("web-1") {
		t.Errorf("enrolled again: %+v, %t, %v", e, repeated, err)
	}
	f.broker.err = errors.New("connection refused")
	if err := f.Revoke(ctx, "web-1", "admin"); !errors.Is(err, auth.ErrBroker) || !strings.Contains(err.Error(), "is revoked here") {
		t.Errorf("revoked: %v", err)
	}
	if _, err := f.Identify(ctx, strings.Repeat("a", 43)); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("identified after the revoke: %v", err)
	}
	f.broker.err = nil
	if err := f.Revoke(ctx, "web-1", "admin"); err != nil || f.broker.has("web-1") {
		t.Errorf("revoked again: %v, an account: %t", err, f.broker.has("web-1"))
	}
}

// A revocation between the database write and the broker call leaves no account behind.
func TestRevokeDuringEnrolment(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	token := f.token(t, 1)
	f.broker.onCreate = func() {
		if _, err := f.store.RevokeEndpoint(t.Context(), "web-1", "admin"); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := f.Enrol(t.Context(), token, enrolRequest("web-1", "a")); !errors.Is(err, auth.ErrRevoked) || f.broker.has("web-1") {
		t.Errorf("enrolled: %v, an account: %t", err, f.broker.has("web-1"))
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	token, ctx := f.token(t, 2), t.Context()
	for _, check := range []func(context.Context, string) error{f.CheckSharedCredential, f.CheckOwnCredential} {
		if err := check(ctx, "web-1"); err != nil {
			t.Errorf("before the enrolment: %v", err)
		}
	}
	if _, _, err := f.Enrol(ctx, token, enrolRequest("web-1", "a")); err != nil {
		t.Fatal(err)
	}
	if shared, own := f.CheckSharedCredential(ctx, "web-1"), f.CheckOwnCredential(ctx, "web-1"); !errors.Is(shared, auth.ErrTaken) || own != nil {
		t.Errorf("enrolled: shared %v, own %v", shared, own)
	}
	if err := f.Revoke(ctx, "web-1", "admin"); err != nil || f.broker.has("web-1") || !slices.Equal(f.disconnected, []string{"web-1"}) {
		t.Errorf("revoked: %v, an account: %t, disconnected: %q", err, f.broker.has("web-1"), f.disconnected)
	}
	if shared, own := f.CheckSharedCredential(ctx, "web-1"), f.CheckOwnCredential(ctx, "web-1"); !errors.Is(shared, auth.ErrRevoked) || !errors.Is(own, auth.ErrRevoked) {
		t.Errorf("revoked: shared %v, own %v", shared, own)
	}
	if _, _, err := f.Enrol(ctx, token, enrolRequest("web-1", "a")); !errors.Is(err, auth.ErrRevoked) {
		t.Errorf("enrolled with the revoked secret: %v", err)
	}
	if _, _, err := f.Enrol(ctx, token, enrolRequest("web-1", "b")); !errors.Is(err, auth.ErrRevoked) || !strings.Contains(err.Error(), "tasker enrol-token create") {
		t.Errorf("enrolled with a token that is older than the revocation: %v", err)
	}
	later, err := f.CreateToken(ctx, time.Hour, 1, nil, "admin")
	if err != nil {
		t.Fatal(err)
	}
	if _, repeated, err := f.Enrol(ctx, later.Token, enrolRequest("web-1", "b")); err != nil || repeated || f.CheckOwnCredential(ctx, "web-1") != nil {
		t.Errorf("enrolled with a new secret: %t, %v", repeated, err)
	}
	for _, name := range []string{"unknown", "Not A Name"} {
		if err := f.Revoke(ctx, name, "admin"); !errors.Is(err, auth.ErrNotFound) {
			t.Errorf("revoked %q: %v", name, err)
		}
	}
	if log := f.log.String(); strings.Contains(log, token) || strings.Contains(log, strings.Repeat("a", 43)) {
		t.Errorf("a secret is in the log: %s", log)
	}
}

func TestEnrolWithoutBroker(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *auth.EnrollerOptions) { o.Broker = nil })
	e, _, err := f.Enrol(t.Context(), f.token(t, 1), enrolRequest("web-1", "a"))
	if err != nil || e.Server != "" {
		t.Errorf("enrolled %+v, %v", e, err)
	}
	if err := f.Revoke(t.Context(), "web-1", "admin"); err != nil {
		t.Error(err)
	}
}

func TestEnrolUnsupported(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *auth.EnrollerOptions) { o.Broker, o.Unsupported = nil, true })
	if _, _, err := f.Enrol(t.Context(), f.token(t, 1), enrolRequest("web-1", "a")); !errors.Is(err, auth.ErrUnsupported) {
		t.Errorf("enrolled: %v", err)
	}
}
