package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/MatthiasWiesner/tasker"
)

// requestTimeout bounds the whole request; the control plane may have to speak to
// its message queue.
const requestTimeout = 30 * time.Second

// post makes the request once.
func (r Request) post(ctx context.Context, secret Secret) (tasker.Enrolment, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	body, err := json.Marshal(tasker.EnrolRequest{Endpoint: r.Endpoint, Secret: secret.Reveal()})
	if err != nil {
		return tasker.Enrolment{}, fmt.Errorf("make the request to enrol: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.Server+"/enrol", bytes.NewReader(body))
	if err != nil {
		return tasker.Enrolment{}, fmt.Errorf("make the request to enrol: %w", err)
	}
	token, _, _ := strings.Cut(r.Token, ".") // the rest is for this side
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	wire := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:     r.TLS,
		TLSHandshakeTimeout: 10 * time.Second,
		DisableKeepAlives:   true,
	}
	client := &http.Client{
		Transport: wire,
		// The token is for this control plane and no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return tasker.Enrolment{}, r.unreachable(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err != nil {
		return tasker.Enrolment{}, r.unreachable(err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return tasker.Enrolment{}, r.refusal(resp, answer, secret)
	}
	var e tasker.Enrolment
	if err := json.Unmarshal(answer, &e); err != nil {
		return tasker.Enrolment{}, fmt.Errorf("%w: what answers at %s is no control plane: %w", ErrRefused, r.Server, err)
	}
	return e, nil
}

// unreachable says why there is no answer, and what may help.
func (r Request) unreachable(err error) error {
	var (
		plain     tls.RecordHeaderError
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
	)
	help := "is it running, and is this its URL as seen from here? (it listens on 127.0.0.1 only, unless api.address says otherwise)"
	switch {
	case errors.As(err, &plain), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		help = "it does not speak https; write http:// if that is meant"
	case errors.As(err, &authority):
		help = "its certificate is not known here; see that the token is whole, as it was printed; name the one that has signed it with --ca-file (ca_file in enrol.yaml), or create the token at a control plane that makes its own certificate, whose tokens say how it is known"
	case errors.As(err, &name):
		help = "use a name for it that its certificate has"
	case r.Fingerprint != "" && strings.Contains(err.Error(), "certificate"):
		help = "the token is not whole or belongs to another control plane, or something stands in between; if that is a proxy with a certificate of its own, cut the token off before the dot"
	}
	return fmt.Errorf("%w at %s: %w; %s", ErrUnreachable, r.Server, err, help)
}

// refusal makes an error of an answer that is no success.
func (r Request) refusal(resp *http.Response, answer []byte, secret Secret) error {
	detail := r.detail(answer, secret)
	said := func(kind error, help string) error {
		return fmt.Errorf("%w: %s answered %d%s%s", kind, r.Server, resp.StatusCode, detail, help)
	}
	switch status := resp.StatusCode; {
	case status == http.StatusUnauthorized:
		return said(ErrToken, "; `tasker enrol-token create` makes another one at the control plane")
	case status == http.StatusConflict:
		help := "; choose another with --endpoint, or make this one free first: tasker endpoint revoke " + r.Endpoint
		if strings.Contains(detail, "--endpoint") {
			help = "" // it says so itself
		}
		return said(ErrTaken, help)
	case status == http.StatusUnprocessableEntity:
		return said(ErrRefused, "; are agent and control plane of the same version?")
	case status == http.StatusNotImplemented:
		return said(ErrRefused, "")
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		return said(ErrRefused, "; is this the control plane's URL, and is it of a version at which servers enrol?")
	case status/100 == 3:
		return fmt.Errorf("%w: it is elsewhere; use what leads to %s", ErrRefused, resp.Header.Get("Location"))
	case status/100 == 5, status == http.StatusTooManyRequests:
		return said(ErrUnavailable, "; its database or message queue may be away: try again later")
	case strings.Contains(detail, "HTTP request to an HTTPS server"):
		return said(ErrRefused, "; write https://")
	}
	return said(ErrRefused, "")
}

// detail is what a problem says, fit for a terminal and without what was sent.
func (r Request) detail(answer []byte, secret Secret) string {
	var p struct{ Title, Detail string }
	if json.Unmarshal(answer, &p) != nil || p.Detail == "" && p.Title == "" {
		p.Detail = string(answer[:min(len(answer), 200)]) // not one of ours: a proxy, or another server
	} else if p.Detail == "" {
		p.Detail = p.Title
	}
	token, _, _ := strings.Cut(r.Token, ".")
	text := strings.NewReplacer(token, hidden, secret.Reveal(), hidden).Replace(p.Detail)
	text = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, text)
	if text = strings.TrimSpace(text[:min(len(text), 1000)]); text == "" {
		return ""
	}
	return ": " + text
}
