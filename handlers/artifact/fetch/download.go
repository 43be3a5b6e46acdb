package fetch

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// errRedirect is the error of a redirect that must not be followed.
var errRedirect = errors.New("refused a redirect")

// newClient returns a client that follows only safe redirects to allowed sources.
func newClient(origin *url.URL, sources Sources, idle time.Duration) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: idle}).DialContext,
			TLSHandshakeTimeout:   idle,
			ResponseHeaderTimeout: idle,
			ForceAttemptHTTP2:     true,
			DisableCompression:    true, // A part of a compressed file cannot be continued.
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			previous := via[len(via)-1].URL
			switch {
			case len(via) >= 10:
				return fmt.Errorf("%w: there were 10 already", errRedirect)
			case req.URL.Scheme != "http" && req.URL.Scheme != "https":
				return fmt.Errorf("%w to %s: only http and https are followed", errRedirect, Redact(req.URL))
			case previous.Scheme == "https" && req.URL.Scheme == "http":
				return fmt.Errorf("%w from https to %s, where the file could be read and changed on its way; name an https URL", errRedirect, Redact(req.URL))
			}
			if err := sources.Check(req.URL); err != nil {
				return fmt.Errorf("%w: %w", errRedirect, handlers.Reject("%s redirects to another place: %v", Redact(previous), err))
			}
			req.Header.Del("Referer") // Its query may be signed.
			if req.URL.Scheme != origin.Scheme || req.URL.Host != origin.Host {
				req.Header.Del("Authorization")
			}
			return nil
		},
	}
}

func newRequest(ctx context.Context, method string, u *url.URL, authorization string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), http.NoBody)
	if err != nil {
		return nil, errors.New("the url is not valid")
	}
	req.Header.Set("User-Agent", "tasker-agent")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	return req, nil
}

// download makes the attempts of one request over http.
type download struct {
	Request
	client *http.Client
	idle   time.Duration
}

// origin identifies the file of a server to which a partial file belongs.
type origin struct {
	// URL has no query: the query may contain a signature that changes.
	URL string `json:"url"`
	// Validator is the value for If-Range: a strong ETag or a Last-Modified.
	Validator string `json:"validator"`
	// Encoding is the Content-Encoding of the response.
	Encoding string `json:"encoding,omitempty"`
}

var errIdle = errors.New("nothing arrived")

// receive downloads the file, or the part of it that is missing. It reports whether the
// partial file contains bytes of an earlier attempt.
func (d *download) receive(ctx context.Context) (resumed bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	have, from := d.partialSize(), d.readOrigin()
	if from.Validator == "" {
		have = 0
	}
	req, err := newRequest(ctx, http.MethodGet, d.URL, d.Authorization)
	if err != nil {
		return false, err
	}
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		req.Header.Set("If-Range", from.Validator)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return false, requestError(d.URL, err)
	}
	defer resp.Body.Close()
	body := resp.Body
	have, total, err := d.accept(resp, have)
	if err != nil {
		return false, err
	}
	idleTimer := time.AfterFunc(d.idle, func() { cancel(errIdle) })
	defer idleTimer.Stop()
	err = d.store(readerFunc(func(p []byte) (int, error) {
		n, err := body.Read(p)
		idleTimer.Reset(d.idle)
		if err != nil && errors.Is(context.Cause(ctx), errIdle) {
			err = fmt.Errorf("%w for %s", errIdle, d.idle)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			err = fmt.Errorf("%s broke off: %w", Redact(d.URL), err)
		}
		return n, err
	}), have, total)
	return have > 0, err
}

// accept checks whether the response contains the whole file or its part from offset on.
// It returns the offset at which the response starts, and the total size; 0 if unknown.
func (d *download) accept(resp *http.Response, offset int64) (start, total int64, err error) {
	switch resp.StatusCode {
	case http.StatusOK:
		return 0, max(resp.ContentLength, 0), d.begin(resp)
	case http.StatusPartialContent:
		if offset > 0 && startsAt(resp, offset) {
			if resp.ContentLength > 0 {
				total = resp.ContentLength + offset
			}
			return offset, total, nil
		}
	case http.StatusRequestedRangeNotSatisfiable:
	default:
		return 0, 0, statusError(d.URL, resp)
	}
	err = retryableError{error: fmt.Errorf("%s does not continue where the last attempt ended; starting from the beginning", Redact(d.URL))}
	return 0, 0, errors.Join(err, d.discard())
}

// begin discards the partial file, and records the origin of the new one.
func (d *download) begin(resp *http.Response) error {
	if err := d.discard(); err != nil {
		return err
	}
	validator := resp.Header.Get("ETag")
	if validator == "" || strings.HasPrefix(validator, "W/") {
		validator = resp.Header.Get("Last-Modified")
	}
	record, err := json.Marshal(origin{URL: withoutQuery(d.URL).String(), Validator: validator, Encoding: resp.Header.Get("Content-Encoding")})
	if err != nil {
		return err
	}
	return d.Dir.WriteFile(d.Name+".json", record, 0o600)
}

// readOrigin returns the recorded origin of the partial file; zero if it is not the
// file of the request.
func (r *Request) readOrigin() origin {
	var o origin
	record, err := r.Dir.ReadFile(r.Name + ".json")
	if err != nil || json.Unmarshal(record, &o) != nil || o.URL != withoutQuery(r.URL).String() {
		return origin{}
	}
	return o
}

// startsAt reports whether a partial response starts at an offset.
func startsAt(resp *http.Response, offset int64) bool {
	return strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset))
}

// statusError returns the error of a response with an unexpected status.
func statusError(u *url.URL, resp *http.Response) error {
	err := fmt.Errorf("%s responded with %s", Redact(u), resp.Status)
	switch code := resp.StatusCode; {
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code == http.StatusTooEarly, code >= 500:
		seconds, convErr := strconv.Atoi(resp.Header.Get("Retry-After"))
		if convErr != nil {
			seconds = 0
		}
		return retryableError{error: err, after: time.Duration(seconds) * time.Second}
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return fmt.Errorf("%w: the server requires other credentials; check the token_file of the task and its permissions on the server", err)
	case code == http.StatusNotFound, code == http.StatusGone:
		return fmt.Errorf("%w; correct the task's url, or put the file there", err)
	}
	return err
}

// requestError returns the error of a failed request without the URL's secrets. It is
// retryable unless it is certain to happen again.
func requestError(u *url.URL, err error) error {
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		err = urlErr.Err
	}
	err = fmt.Errorf("get %s: %w", Redact(u), err)
	var dnsErr *net.DNSError
	var certificate *tls.CertificateVerificationError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.Is(err, errRedirect):
		return err
	case errors.As(err, &dnsErr) && dnsErr.IsNotFound:
		return fmt.Errorf("%w; correct the task's url, or this server's DNS", err)
	case errors.As(err, &certificate):
		return fmt.Errorf("%w; let this server trust the issuer of the certificate (on Debian /usr/local/share/ca-certificates, then update-ca-certificates)", err)
	case errors.As(err, &noTLS), errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w; that port does not use https", err)
	}
	return retryableError{error: err}
}

// Size asks the server for the size of a file. It returns -1 if the server does not
// report it.
func (f *Fetcher) Size(ctx context.Context, u *url.URL, authorization string) (int64, error) {
	if err := f.Sources.Check(u); err != nil {
		return -1, err
	}
	if u.Scheme == "file" {
		return f.Sources.size(u)
	}
	client := newClient(u, f.Sources, f.IdleTimeout)
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, f.IdleTimeout)
	defer cancel()
	req, err := newRequest(ctx, http.MethodHead, u, authorization)
	if err != nil {
		return -1, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return -1, requestError(u, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.ContentLength, nil
	case http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusForbidden:
		return -1, nil // A URL may be signed for GET only.
	}
	return -1, statusError(u, resp)
}
