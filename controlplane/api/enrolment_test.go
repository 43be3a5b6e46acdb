package api_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
	"github.com/MatthiasWiesner/tasker/controlplane/auth"
)

var admin = []string{"Authorization", "Bearer the-admins-own-token"}

// serveWithTokens starts a server that requires tokens.
func serveWithTokens(t *testing.T, configure ...func(*api.Options)) *server {
	t.Helper()
	return serve(t, append([]func(*api.Options){func(o *api.Options) {
		var err error
		o.Authorizer, err = auth.NewAuthorizer(auth.AuthorizerOptions{
			Tokens: auth.AccessTokens{Admin: "the-admins-own-token", Agent: "the-agents-own-token"}, Enroller: o.Enroller,
		})
		if err != nil {
			t.Fatal(err)
		}
	}}, configure...)...)
}

func secretOf(name string) string {
	return base64.RawURLEncoding.EncodeToString([]byte((name + strings.Repeat(".", 32))[:32]))
}

func enrolBody(name string) string {
	return `{"endpoint":"` + name + `","secret":"` + secretOf(name) + `"}`
}

func (s *server) token(t *testing.T, body string) tasker.EnrolToken {
	t.Helper()
	return decode[tasker.EnrolToken](t, s.do(t, http.MethodPost, "/tokens", body, admin...), http.StatusCreated)
}

func TestEnrolTokens(t *testing.T) {
	t.Parallel()
	s := serveWithTokens(t)
	first := s.token(t, `{}`)
	if d := first.ExpiresAt.Sub(first.CreatedAt); d != time.Hour || first.MaxUses != 1 || first.CreatedBy != "admin" || !strings.HasPrefix(first.Token, "tasker-enrol-") {
		t.Errorf("with defaults: %+v", first)
	}
	second := s.token(t, `{"ttl":"90m","max_uses":50}`)
	if d := second.ExpiresAt.Sub(second.CreatedAt); d != 90*time.Minute || second.MaxUses != 50 {
		t.Errorf("with both fields: %+v", second)
	}
	list := decode[api.EnrolTokenList](t, s.do(t, http.MethodGet, "/tokens", "", admin...), http.StatusOK)
	if len(list.Tokens) != 2 || list.Tokens[0].ID != second.ID || list.Tokens[0].Token != "" {
		t.Errorf("listed: %+v", list)
	}
	for range 2 {
		if a := s.do(t, http.MethodDelete, "/tokens/"+first.ID, "", admin...); a.status != http.StatusNoContent {
			t.Errorf("revoke: %d %s", a.status, a.body)
		}
	}
	s.do(t, http.MethodDelete, "/tokens/unknown", "", admin...).problem(t, http.StatusNotFound)
	p := s.do(t, http.MethodPost, "/enrol", enrolBody("web-1"), "Authorization", "Bearer "+first.Token).problem(t, http.StatusUnauthorized)
	if !strings.Contains(p.Detail, "revoked") || strings.Contains(p.Detail, first.Token) {
		t.Errorf("with a revoked token: %q", p.Detail)
	}
	if strings.Contains(s.log.String(), second.Token) {
		t.Error("the log has a token")
	}
}

func TestInvalidEnrolmentRequests(t *testing.T) {
	t.Parallel()
	s := serveWithTokens(t)
	token := s.token(t, `{"max_uses":9}`).Token
	bearer := []string{"Authorization", "Bearer " + token}
	tests := []struct {
		name, method, path, body string
		header                   []string
		status                   int
		want                     string
	}{
		{"invalid ttl", "POST", "/tokens", `{"ttl":"soon"}`, admin, 422, "body.ttl"},
		{"ttl too short", "POST", "/tokens", `{"ttl":"1s"}`, admin, 422, "ttl"},
		{"ttl too long", "POST", "/tokens", `{"ttl":"10000h"}`, admin, 422, "ttl"},
		{"no uses", "POST", "/tokens", `{"max_uses":-1}`, admin, 422, "max_uses"},
		{"unknown field", "POST", "/tokens", `{"uses":1}`, admin, 422, "uses"},
		{"malformed JSON", "POST", "/tokens", `{`, admin, 400, ""},
		{"agent creates a token", "POST", "/tokens", `{}`, []string{"Authorization", "Bearer the-agents-own-token"}, 403, "admin"},
		{"enrolment token lists tokens", "GET", "/tokens", "", bearer, 401, "token"},
		{"no token", "GET", "/tokens", "", nil, 401, "token"},
		{"enrol without a token", "POST", "/enrol", enrolBody("web-1"), nil, 401, "enrol-token create"},
		{"enrol with the admin token", "POST", "/enrol", enrolBody("web-1"), admin, 401, "not known"},
		{"enrol with an invalid name", "POST", "/enrol", enrolBody("Web 1"), bearer, 422, "endpoint"},
		{"enrol with a short secret", "POST", "/enrol", `{"endpoint":"web-1","secret":"short"}`, bearer, 422, "secret"},
		{"enrol without a secret", "POST", "/enrol", `{"endpoint":"web-1"}`, bearer, 422, "secret"},
		{"revoke an unknown endpoint", "POST", "/endpoints/nobody/revoke", "", admin, 404, "no endpoint"},
		{"revoke an invalid name", "POST", "/endpoints/No Body/revoke", "", admin, 404, "no endpoint"},
		{"revoke as an agent", "POST", "/endpoints/nobody/revoke", "", []string{"Authorization", "Bearer the-agents-own-token"}, 403, "admin"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := s.do(t, tt.method, strings.ReplaceAll(tt.path, " ", "%20"), tt.body, tt.header...)
			a.problem(t, tt.status)
			if !strings.Contains(string(a.body), tt.want) || strings.Contains(string(a.body), token) {
				t.Errorf("got %s, want %q in it and no token", a.body, tt.want)
			}
		})
	}
}

func TestEnrolAndRevoke(t *testing.T) {
	t.Parallel()
	s := serveWithTokens(t, func(o *api.Options) {
		o.Agents = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(auth.CallerFrom(r.Context()).Endpoint))
		})
		o.CertificateFingerprint = "the-certificates-fingerprint"
	})
	token := s.token(t, `{"max_uses":2}`).Token
	if !strings.HasSuffix(token, ".the-certificates-fingerprint") {
		t.Errorf("the token %q does not end with the fingerprint", token)
	}
	bearer := []string{"Authorization", "Bearer " + token}
	for _, status := range []int{http.StatusCreated, http.StatusOK, http.StatusOK} {
		e := decode[tasker.Enrolment](t, s.do(t, http.MethodPost, "/enrol", enrolBody("web-1"), bearer...), status)
		if e.Endpoint != "web-1" || e.Server != "" || len(e.Keys) != 1 || len(e.Keys[0]) != 32 {
			t.Errorf("enrolled: %+v", e)
		}
	}
	other := `{"endpoint":"web-1","secret":"` + secretOf("other") + `"}`
	if p := s.do(t, http.MethodPost, "/enrol", other, bearer...).problem(t, http.StatusConflict); !strings.Contains(p.Detail, "revoke web-1") || !strings.Contains(p.Detail, "since") {
		t.Errorf("another server of the same name: %q", p.Detail)
	}

	own := []string{"Authorization", "Bearer " + secretOf("web-1")}
	if a := s.do(t, http.MethodGet, "/agent/x", "", own...); string(a.body) != "web-1" {
		t.Errorf("the secret belongs to %q: %d", a.body, a.status)
	}
	s.do(t, http.MethodGet, "/endpoints", "", own...).problem(t, http.StatusForbidden)
	e := decode[tasker.Endpoint](t, s.do(t, http.MethodGet, "/endpoints/web-1", "", admin...), http.StatusOK)
	if e.EnrolledAt == nil || e.RevokedAt != nil {
		t.Errorf("enrolled: %+v", e)
	}

	for range 2 {
		e = decode[tasker.Endpoint](t, s.do(t, http.MethodPost, "/endpoints/web-1/revoke", "", admin...), http.StatusOK)
		if e.RevokedAt == nil {
			t.Errorf("revoked: %+v", e)
		}
	}
	s.do(t, http.MethodGet, "/agent/x", "", own...).problem(t, http.StatusUnauthorized)
	if p := s.do(t, http.MethodPost, "/enrol", enrolBody("web-1"), bearer...).problem(t, http.StatusConflict); !strings.Contains(p.Detail, "revoked") {
		t.Errorf("the revoked secret: %q", p.Detail)
	}
	if p := s.do(t, http.MethodPost, "/enrol", other, bearer...).problem(t, http.StatusConflict); !strings.Contains(p.Detail, "create a new token") {
		t.Errorf("a token that is older than the revocation: %q", p.Detail)
	}
	bearer[1] = "Bearer " + s.token(t, `{"max_uses":1}`).Token
	decode[tasker.Enrolment](t, s.do(t, http.MethodPost, "/enrol", other, bearer...), http.StatusCreated)
	if p := s.do(t, http.MethodPost, "/enrol", enrolBody("web-2"), bearer...).problem(t, http.StatusUnauthorized); !strings.Contains(p.Detail, "used up") {
		t.Errorf("the second use: %q", p.Detail)
	}
}

// While the database is unavailable no secret is reported as invalid.
func TestSecretsWithoutDatabase(t *testing.T) {
	t.Parallel()
	s := serveWithTokens(t)
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/agent/x", "/endpoints"} {
		a := s.do(t, http.MethodGet, path, "", "Authorization", "Bearer "+secretOf("web-1"))
		if a.problem(t, http.StatusServiceUnavailable); a.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", path)
		}
	}
	s.do(t, http.MethodGet, "/endpoints", "", "Authorization", "Bearer wrong").problem(t, http.StatusUnauthorized)
}
