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

// requestTimeout bounds the request, in which the control plane may have to create a user
// of its message queue.
const requestTimeout = 30 * time.Second

// post sends the request once.
func (r Request) post(ctx context.Context, secret Secret) (tasker.Enrolment, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	body, err := json.Marshal(tasker.EnrolRequest{Endpoint: r.Endpoint, Secret: secret.Reveal()})
	if err != nil {
		return tasker.Enrolment{}, fmt.Errorf("create the request to enrol: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.Server+"/enrol", bytes.NewReader(body))
	if err != nil {
		return tasker.Enrolment{}, fmt.Errorf("create the request to enrol: %w", err)
	}
	token, _, _ := strings.Cut(r.Token, ".") // The rest is the fingerprint.
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:     r.TLS,
		TLSHandshakeTimeout: 10 * time.Second,
		DisableKeepAlives:   true,
	}
	client := &http.Client{
		Transport: transport,
		// Do not send the token to another server.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return tasker.Enrolment{}, r.unreachable(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxSize))
	if err != nil {
		return tasker.Enrolment{}, r.unreachable(err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return tasker.Enrolment{}, r.refusal(resp, body, secret)
	}
	var e tasker.Enrolment
	if err := json.Unmarshal(body, &e); err != nil {
		return tasker.Enrolment{}, fmt.Errorf("%w: the server at %s is not a control plane: %w", ErrRefused, r.Server, err)
	}
	return e, nil
}

// unreachable explains why there is no response, with advice.
func (r Request) unreachable(err error) error {
	var (
		noTLS            tls.RecordHeaderError
		unknownAuthority x509.UnknownAuthorityError
		wrongName        x509.HostnameError
	)
	advice := "is it running, and is this its URL as seen from here? (by default it listens on 127.0.0.1 only, see api.address)"
	switch {
	case errors.As(err, &noTLS), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		advice = "it does not use https; write http:// if that is intended"
	case errors.As(err, &unknownAuthority):
		advice = "its certificate is not trusted here; check that the token is complete; name the certificate of its authority with --ca-file (ca_file in enrol.yaml), or create the token at a control plane with a self-signed certificate, whose tokens contain the fingerprint"
	case errors.As(err, &wrongName):
		advice = "use a host name that its certificate contains"
	case r.Fingerprint != "" && strings.Contains(err.Error(), "certificate"):
		advice = "the token is incomplete or belongs to another control plane, or there is a proxy in between; if the proxy has its own certificate, remove the dot and everything after it from the token"
	}
	return fmt.Errorf("%w at %s: %w; %s", ErrUnreachable, r.Server, err, advice)
}

// refusal returns the error of a response with an unsuccessful status.
func (r Request) refusal(resp *http.Response, body []byte, secret Secret) error {
	detail := r.detail(body, secret)
	refused := func(kind error, advice string) error {
		return fmt.Errorf("%w: %s responded with %d%s%s", kind, r.Server, resp.StatusCode, detail, advice)
	}
	switch status := resp.StatusCode; {
	case status == http.StatusUnauthorized:
		return refused(ErrInvalidToken, "; create another one with `tasker enrol-token create` at the control plane")
	case status == http.StatusConflict:
		advice := "; choose another with --endpoint, or release this name first: tasker endpoint revoke " + r.Endpoint
		if strings.Contains(detail, "--endpoint") || strings.Contains(detail, "tasker enrol-token create") {
			advice = "" // The control plane has given it.
		}
		return refused(ErrNameTaken, advice)
	case status == http.StatusUnprocessableEntity:
		return refused(ErrRefused, "; are agent and control plane of the same version?")
	case status == http.StatusNotImplemented:
		return refused(ErrRefused, "")
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		return refused(ErrRefused, "; is this the control plane's URL, and does its version support enrolment?")
	case status/100 == 3:
		return fmt.Errorf("%w: it redirects to %s; use that URL", ErrRefused, resp.Header.Get("Location"))
	case status == http.StatusTooManyRequests:
		return refused(ErrUnavailable, "; check the token, and the tokens of other servers with the same address: only wrong tokens are limited")
	case status/100 == 5:
		return refused(ErrUnavailable, "; its database or message queue may be unavailable: try again later")
	case strings.Contains(detail, "HTTP request to an HTTPS server"):
		return refused(ErrRefused, "; write https://")
	}
	return refused(ErrRefused, "")
}

// detail returns the text of a problem response, without control characters and without
// the secrets of the request.
func (r Request) detail(body []byte, secret Secret) string {
	var p struct{ Title, Detail string }
	limit := 1000
	if json.Unmarshal(body, &p) != nil || p.Detail == "" && p.Title == "" {
		p.Detail, limit = string(body), 200 // For example from a proxy.
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
	if text = strings.TrimSpace(strings.ToValidUTF8(text[:min(len(text), limit)], "")); text == "" {
		return ""
	}
	return ": " + text
}
