package api_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// Of thousands of wrong tokens, few are checked, and few lines are logged. Right tokens from
// the same address still work.
func TestWrongTokensAreLimited(t *testing.T) {
	t.Parallel()
	s := serveWithTokens(t)
	token := s.token(t, `{"max_uses":2}`)
	s.do(t, http.MethodPost, "/enrol", enrolBody("web-1"), "Authorization", "Bearer "+token.Token)
	const calls = 500
	statuses := map[int]int{}
	for i := range calls {
		method, path, body := http.MethodGet, "/endpoints", ""
		if i%2 == 0 {
			method, path, body = http.MethodPost, "/enrol", enrolBody("web-9")
		}
		a := s.do(t, method, path, body, "Authorization", fmt.Sprintf("Bearer tasker-enrol-%043d", i))
		statuses[a.status]++
		if after, err := strconv.Atoi(a.header.Get("Retry-After")); (a.status == http.StatusTooManyRequests) != (err == nil && after >= 1 && after <= 2) {
			t.Errorf("status %d with Retry-After %q", a.status, a.header.Get("Retry-After"))
		}
	}
	// On a slow machine a few more are checked.
	if n := statuses[http.StatusUnauthorized]; n < 30 || n > 60 || statuses[http.StatusTooManyRequests] != calls-n {
		t.Errorf("statuses %v", statuses)
	}
	if a := s.do(t, http.MethodPost, "/enrol", enrolBody("web-2"), "Authorization", "Bearer "+token.Token); a.status != http.StatusCreated {
		t.Errorf("a right enrolment token: %d", a.status)
	}
	if a := s.do(t, http.MethodGet, "/endpoints", "", admin...); a.status != http.StatusOK {
		t.Errorf("the admin token: %d", a.status)
	}
	if n := strings.Count(s.log.String(), "\n") - strings.Count(s.log.String(), "level=DEBUG"); n > calls/10 {
		t.Errorf("%d lines were logged for %d calls", n, calls)
	}
	before := len(s.log.String())
	s.api.Drain()
	total := 0
	for line := range strings.Lines(s.log.String()[before:]) {
		if !strings.Contains(line, "address=127.0.0.1") {
			t.Errorf("no address: %s", line)
		}
		_, count, _ := strings.Cut(line, "calls=")
		n, err := strconv.Atoi(strings.Fields(count)[0])
		if err != nil {
			t.Errorf("no number of calls: %s", line)
		}
		total += n
	}
	if first := strings.Count(s.log.String(), `"call refused"`); total+first != calls {
		t.Errorf("%d calls and %d further ones were logged, want %d", first, total, calls)
	}
}

// A refused call is logged with its address, and with the name of the token if that is
// known.
func TestRefusedCallIsLogged(t *testing.T) {
	t.Parallel()
	s := serveWithTokens(t)
	token := s.token(t, `{"max_uses":1}`)
	bearer := []string{"Authorization", "Bearer " + token.Token}
	s.do(t, http.MethodPost, "/enrol", enrolBody("web-1"), bearer...)
	s.do(t, http.MethodPost, "/enrol", enrolBody("web-2"), bearer...).problem(t, http.StatusUnauthorized)
	s.do(t, http.MethodGet, "/endpoints", "", "Authorization", "Bearer "+secretOf("web-1")).problem(t, http.StatusForbidden)
	for _, want := range []string{
		`msg="call refused" status=401 address=127.0.0.1 by="enrolment token ` + token.ID + `" endpoint=web-2 method=POST route=/enrol`,
		`msg="call refused" status=403 address=127.0.0.1 by=web-1 method=GET route=/endpoints`,
	} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("%s is missing in the log:\n%s", want, s.log)
		}
	}
}
