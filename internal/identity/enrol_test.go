package identity_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/identity"
)

const token = "tasker-enrol-VerySecretIndeed"

// plane answers as a control plane does.
type plane struct {
	*httptest.Server
	// queue is what it answers as the server to connect to.
	queue string

	mu      sync.Mutex
	secrets map[string]string
	revoked map[string]bool
	asked   []tasker.EnrolRequest
	// lose is how many answers are lost after the enrolment.
	lose int
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	p := &plane{secrets: map[string]string{}, revoked: map[string]bool{}}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *plane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var req tasker.EnrolRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil || r.URL.Path != "/enrol" || r.Method != http.MethodPost {
		http.NotFound(w, r)
		return
	}
	p.asked = append(p.asked, req)
	status := http.StatusCreated
	switch had, ok := p.secrets[req.Endpoint]; {
	case r.Header.Get("Authorization") != "Bearer "+token:
		problem(w, http.StatusUnauthorized, "it is not known here")
		return
	case p.revoked[req.Secret]:
		problem(w, http.StatusConflict, "the secret was revoked")
		return
	case ok && had == req.Secret:
		status = http.StatusOK
	case ok:
		problem(w, http.StatusConflict, "the name is in use since yesterday")
		return
	}
	p.secrets[req.Endpoint] = req.Secret
	if p.lose > 0 {
		p.lose--
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(tasker.Enrolment{Endpoint: req.Endpoint, Server: p.queue, Keys: [][]byte{make([]byte, 32)}})
}

func (p *plane) revoke(endpoint string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.revoked[p.secrets[endpoint]] = true
	delete(p.secrets, endpoint)
}

func (p *plane) request(endpoint string) identity.Request {
	return identity.Request{Server: p.URL, Token: token, Endpoint: endpoint}
}

func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"status": status, "title": "No", "detail": detail})
}

// only checks what is in a directory.
func only(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the directory has %v, want %v", got, want)
	}
}

func TestEnrolKeepsTheIdentity(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	dir := filepath.Join(t.TempDir(), "new")
	r := p.request("web-1")
	r.Token += ".fingerprint" // which is not for the control plane
	r.Server += "/"
	got, err := identity.Enrol(t.Context(), dir, r)
	if err != nil {
		t.Fatal(err)
	}
	if got.Endpoint != "web-1" || got.ControlPlane != p.URL || got.Server != p.URL || got.URI() != p.URL || len(got.Keys) != 1 || got.Secret.Reveal() != p.secrets["web-1"] {
		t.Errorf("the identity is %+v", got)
	}
	loaded, err := identity.Load(dir)
	if err != nil || loaded.Secret != got.Secret {
		t.Errorf("loaded %+v, %v", loaded, err)
	}
	only(t, dir, "identity.json")
	if info, err := os.Stat(identity.File(dir)); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := tasker.ValidateSecret(got.Secret.Reveal()); err != nil {
		t.Error(err)
	}
}

func TestAgentsOfAMessageQueueConnectAsThemselves(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	p.queue = "amqps://mq.example.net:5671/tas%2Fker"
	i, err := identity.Enrol(t.Context(), t.TempDir(), p.request("web-1"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "amqps://web-1:" + i.Secret.Reveal() + "@mq.example.net:5671/tas%2Fker"; i.URI() != want {
		t.Errorf("connects to %s, want %s", i.URI(), want)
	}
}

// A request whose answer was lost is repeated with the same secret.
func TestEnrolIsRepeatable(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	p.lose = 1
	dir := t.TempDir()
	if _, err := identity.Enrol(t.Context(), dir, p.request("web-1")); !errors.Is(err, identity.ErrUnreachable) {
		t.Fatalf("a lost answer: %v", err)
	}
	if _, err := identity.Load(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is not complete is an identity: %v", err)
	}
	only(t, dir, "enrolling.json")
	for range 2 {
		if _, err := identity.Enrol(t.Context(), dir, p.request("web-1")); err != nil {
			t.Fatal(err)
		}
		only(t, dir, "identity.json")
	}
	if len(p.asked) != 3 || p.asked[0] != p.asked[1] || p.asked[1] != p.asked[2] {
		t.Errorf("asked %v", p.asked)
	}
}

func TestANewSecretAfterARevoke(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	dir := t.TempDir()
	first, err := identity.Enrol(t.Context(), dir, p.request("web-1"))
	if err != nil {
		t.Fatal(err)
	}
	p.revoke("web-1")
	second, err := identity.Enrol(t.Context(), dir, p.request("web-1"))
	if err != nil || second.Secret == first.Secret {
		t.Errorf("%v; the same secret again: %t", err, err == nil && second.Secret == first.Secret)
	}
	// Its name was given to another server: what it has stays as it is.
	p.revoke("web-1")
	if _, err := identity.Enrol(t.Context(), t.TempDir(), p.request("web-1")); err != nil {
		t.Fatal(err)
	}
	_, err = identity.Enrol(t.Context(), dir, p.request("web-1"))
	if !errors.Is(err, identity.ErrTaken) || !strings.Contains(err.Error(), "tasker endpoint revoke web-1") {
		t.Errorf("another server's name: %v", err)
	}
	if kept, err := identity.Load(dir); err != nil || kept.Secret != second.Secret {
		t.Errorf("%v", err)
	}
	only(t, dir, "identity.json")
}

func TestAnotherIdentityReplacesOneOnlyByForce(t *testing.T) {
	t.Parallel()
	p, elsewhere := newPlane(t), newPlane(t)
	dir := t.TempDir()
	if _, err := identity.Enrol(t.Context(), dir, p.request("web-1")); err != nil {
		t.Fatal(err)
	}
	for _, r := range []identity.Request{p.request("web-2"), elsewhere.request("web-1")} {
		_, err := identity.Enrol(t.Context(), dir, r)
		if !errors.Is(err, identity.ErrEnrolled) || !strings.Contains(err.Error(), "web-1") || !strings.Contains(err.Error(), identity.File(dir)) {
			t.Errorf("got %v", err)
		}
		r.Replace = true
		if i, err := identity.Enrol(t.Context(), dir, r); err != nil || i.Endpoint != r.Endpoint || i.ControlPlane != r.Server {
			t.Errorf("by force: %+v, %v", i, err)
		}
		p.revoke("web-1")
		r = p.request("web-1")
		r.Replace = true
		if _, err := identity.Enrol(t.Context(), dir, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(identity.File(dir), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.Enrol(t.Context(), dir, p.request("web-9")); err == nil || !strings.Contains(err.Error(), identity.File(dir)) {
		t.Errorf("over a broken file: %v", err)
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		kind   error
		says   []string
	}{
		"a bad token": {
			func(w http.ResponseWriter, _ *http.Request) { problem(w, 401, "it expired at noon") },
			identity.ErrToken,
			[]string{"it expired at noon", "tasker enrol-token create"},
		},
		"a name in use": {
			func(w http.ResponseWriter, _ *http.Request) { problem(w, 409, "since noon") },
			identity.ErrTaken,
			[]string{"since noon", "--endpoint", "tasker endpoint revoke web-1"},
		},
		"a bad name": {
			func(w http.ResponseWriter, _ *http.Request) { problem(w, 422, "endpoint: no") },
			identity.ErrRefused,
			[]string{"endpoint: no"},
		},
		"no management": {
			func(w http.ResponseWriter, _ *http.Request) { problem(w, 501, "set rabbitmq.apiurl") },
			identity.ErrRefused,
			[]string{"set rabbitmq.apiurl"},
		},
		"no database": {
			func(w http.ResponseWriter, _ *http.Request) { problem(w, 503, "the database is away") },
			identity.ErrUnavailable,
			[]string{"the database is away", "try again later"},
		},
		"a proxy": {
			func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "bad\x1b[31m gateway", http.StatusBadGateway)
			},
			identity.ErrUnavailable,
			[]string{"bad [31m gateway"},
		},
		"an older control plane": {http.NotFound, identity.ErrRefused, []string{"version"}},
		"another server":         {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, identity.ErrRefused, []string{"no control plane"}},
		"a redirection": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/enrol", http.StatusMovedPermanently)
		}, identity.ErrRefused, []string{"https://elsewhere.example"}},
		"an echo": {func(w http.ResponseWriter, r *http.Request) {
			var req tasker.EnrolRequest
			_ = json.NewDecoder(r.Body).Decode(&req)
			problem(w, 400, req.Secret+r.Header.Get("Authorization"))
		}, identity.ErrRefused, []string{"Bearer ********"}},
		"no key": {
			func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"endpoint":"web-1"}`) },
			identity.ErrRefused,
			[]string{"no key"},
		},
		"a short key": {
			func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"endpoint":"web-1","keys":["AAAA"]}`) },
			identity.ErrRefused,
			[]string{"3 bytes"},
		},
		"another name": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"endpoint":"web-2","keys":["%s="]}`, strings.Repeat("A", 43))
		}, identity.ErrRefused, []string{"another endpoint"}},
		"a queue with a user": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"endpoint":"web-1","server":"amqp://u:p@h/v","keys":["%s="]}`, strings.Repeat("A", 43))
		}, identity.ErrRefused, []string{"without user"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(tt.answer)
			t.Cleanup(server.Close)
			dir := t.TempDir()
			_, err := identity.Enrol(t.Context(), dir, identity.Request{Server: server.URL, Token: token, Endpoint: "web-1"})
			if !errors.Is(err, tt.kind) {
				t.Fatalf("got %v, want %v", err, tt.kind)
			}
			for _, part := range append(tt.says, server.URL) {
				if !strings.Contains(err.Error(), part) && (part != server.URL || name != "a redirection") {
					t.Errorf("%q is not in: %v", part, err)
				}
			}
			if strings.Contains(err.Error(), token) {
				t.Errorf("the token is in: %v", err)
			}
			if _, err := identity.Load(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("there is an identity: %v", err)
			}
		})
	}
}

func TestWhoCannotBeReached(t *testing.T) {
	t.Parallel()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	plain := newPlane(t)
	const nobody = "http://127.0.0.1:1" // a port that is given to nobody
	pool := x509.NewCertPool()
	pool.AddCert(secure.Certificate())
	for name, tt := range map[string]struct {
		r    identity.Request
		says string
	}{
		"nobody listens":         {identity.Request{Server: nobody}, "is it running"},
		"an unknown certificate": {identity.Request{Server: secure.URL}, "--ca-file"},
		"a token that was cut":   {identity.Request{Server: secure.URL}, "whole"},
		"another name":           {identity.Request{Server: secure.URL, TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: "elsewhere"}}, "that its certificate has"},
		"no https":               {identity.Request{Server: strings.Replace(plain.URL, "http", "https", 1)}, "write http://"},
		"https":                  {identity.Request{Server: strings.Replace(secure.URL, "https", "http", 1)}, "write https://"},
		"a token for https":      {identity.Request{Server: plain.URL, Fingerprint: "x"}, "write https://"},
		"no URL":                 {identity.Request{Server: "127.0.0.1:8888"}, "https://HOST:PORT"},
		"a user in the URL":      {identity.Request{Server: "http://u:hunter2@cp"}, "without user"},
		"no token":               {identity.Request{Server: plain.URL, Token: "a b"}, "tasker enrol-token create"},
		"another token":          {identity.Request{Server: plain.URL, Token: "hunter2"}, "begins with tasker-enrol-"},
		"no name":                {identity.Request{Server: plain.URL, Endpoint: "Web"}, `"Web"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.r.Token == "" {
				tt.r.Token = token
			}
			if tt.r.Endpoint == "" {
				tt.r.Endpoint = "web-1"
			}
			_, err := identity.Enrol(t.Context(), t.TempDir(), tt.r)
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), token) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want …%s…", err, tt.says)
			}
		})
	}
}

func TestLoadIsStrict(t *testing.T) {
	t.Parallel()
	good := fmt.Sprintf(`{"endpoint":"web-1","control_plane":"https://cp:8888","server":"https://cp:8888","secret":"%s","keys":["%s="]}`,
		strings.Repeat("S", 43), strings.Repeat("A", 43))
	for name, tt := range map[string]struct {
		content string
		mode    os.FileMode
		says    string
	}{
		"as it is written":   {good, 0o600, ""},
		"readable by others": {good, 0o640, "chmod 600"},
		"empty":              {"", 0o600, "not what was written"},
		"cut off":            {good[:60], 0o600, "not what was written"},
		"two of them":        {good + good, 0o600, "more after its end"},
		"an unknown key":     {strings.Replace(good, "{", `{"x":1,`, 1), 0o600, "unknown field"},
		"no name":            {strings.Replace(good, "web-1", "", 1), 0o600, "endpoint"},
		"a short secret":     {strings.Replace(good, "SSS", "", 1), 0o600, "secret"},
		"no key":             {good[:strings.Index(good, `,"keys"`)] + "}", 0o600, "not complete"},
		"a short key":        {strings.Replace(good, strings.Repeat("A", 43)+"=", "AAAA", 1), 0o600, "bytes"},
		"a strange server":   {strings.Replace(good, `"server":"https:`, `"server":"ftp:`, 1), 0o600, "amqp(s)"},
		"no control plane":   {strings.Replace(good, "https://cp:8888", "cp", 1), 0o600, "control_plane"},
		"no certificate":     {strings.Replace(good, "{", `{"ca":"x",`, 1), 0o600, "PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(identity.File(dir), []byte(tt.content), tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := identity.Load(dir)
			if tt.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), identity.File(dir)) || strings.Contains(err.Error(), "SSS") {
				t.Errorf("got %v, want …%s…", err, tt.says)
			}
		})
	}
	dir := t.TempDir()
	if err := os.Symlink("elsewhere", identity.File(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.Load(dir); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("a link: %v", err)
	}
}

func TestTheSecretIsHidden(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	i, err := identity.Enrol(t.Context(), t.TempDir(), p.request("web-1"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("text", "identity", i, "secret", i.Secret)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("json", "identity", i, "secret", i.Secret)
	fmt.Fprintf(&b, "%v %+v %#v %s %q", i, i, *i, i.Secret, i.Secret)
	if strings.Contains(b.String(), i.Secret.Reveal()) {
		t.Errorf("the secret is shown in:\n%s", &b)
	}
}

func TestCertificatesAreKept(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	secure := httptest.NewTLSServer(p)
	t.Cleanup(secure.Close)
	pool := x509.NewCertPool()
	pool.AddCert(secure.Certificate())
	r := identity.Request{
		Server: secure.URL, Token: token, Endpoint: "web-1", TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool},
		CA:          string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})),
		Fingerprint: identity.Fingerprint(token + ".abc"),
	}
	i, err := identity.Enrol(t.Context(), t.TempDir(), r)
	if err != nil || i.CA != r.CA || i.Fingerprint != "abc" {
		t.Errorf("%+v, %v", i, err)
	}
}
