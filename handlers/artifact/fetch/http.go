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
)

// errRedirect: a redirect leads where it must not.
var errRedirect = errors.New("refused a redirect")

// newClient makes a client that goes only where it may.
func newClient(first *url.URL, idle time.Duration) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: idle}).DialContext,
			TLSHandshakeTimeout:   idle,
			ResponseHeaderTimeout: idle,
			ForceAttemptHTTP2:     true,
			DisableCompression:    true, // a part of a compressed file is of no use
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			was := via[len(via)-1].URL
			switch {
			case len(via) >= 10:
				return fmt.Errorf("%w: 10 of them", errRedirect)
			case req.URL.Scheme != "http" && req.URL.Scheme != "https":
				return fmt.Errorf("%w to %s: only http and https are followed", errRedirect, Redact(req.URL))
			case was.Scheme == "https" && req.URL.Scheme == "http":
				return fmt.Errorf("%w from https to %s, where anybody on the way could read and change it; name an https URL", errRedirect, Redact(req.URL))
			}
			req.Header.Del("Referer") // its query may be signed
			if req.URL.Scheme != first.Scheme || req.URL.Host != first.Host {
				req.Header.Del("Authorization")
			}
			return nil
		},
	}
}

func newRequest(ctx context.Context, method string, u *url.URL, authorization string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), http.NoBody)
	if err != nil {
		return nil, errors.New("the url makes no request")
	}
	req.Header.Set("User-Agent", "tasker-agent")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	return req, nil
}

// download is the tries of a request over http.
type download struct {
	Request
	client *http.Client
	idle   time.Duration
}

// origin says which file of a server a partial file is of.
type origin struct {
	// URL has the query left out, which may be signed and change.
	URL string `json:"url"`
	// Validator is what If-Range takes: a strong ETag or a Last-Modified.
	Validator string `json:"validator"`
}

var errStalled = errors.New("nothing came")

// try fetches the file, or what is missing of it, and says whether something of an
// earlier try is in it.
func (d *download) try(ctx context.Context) (resumed bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	have, of := d.have(), d.origin()
	if of.Validator == "" {
		have = 0
	}
	req, err := newRequest(ctx, http.MethodGet, d.URL, d.Authorization)
	if err != nil {
		return false, err
	}
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		req.Header.Set("If-Range", of.Validator)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return false, plain(d.URL, err)
	}
	defer resp.Body.Close()
	body, total := resp.Body, resp.ContentLength
	switch {
	case resp.StatusCode == http.StatusOK:
		have = 0
	case resp.StatusCode == http.StatusPartialContent && have > 0 && startsAt(resp, have):
		if total > 0 {
			total += have
		}
	case resp.StatusCode == http.StatusPartialContent, resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return false, errors.Join(passing{error: fmt.Errorf("%s does not go on where the last try ended; from the beginning", Redact(d.URL))}, d.discard())
	default:
		return false, answered(d.URL, resp)
	}
	if have == 0 {
		if err := d.begin(resp); err != nil {
			return false, err
		}
	}
	stalled := time.AfterFunc(d.idle, func() { cancel(errStalled) })
	defer stalled.Stop()
	err = d.fill(reader(func(p []byte) (int, error) {
		n, err := body.Read(p)
		stalled.Reset(d.idle)
		if err != nil && errors.Is(context.Cause(ctx), errStalled) {
			err = fmt.Errorf("%w for %s", errStalled, d.idle)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			err = fmt.Errorf("%s broke off: %w", Redact(d.URL), err)
		}
		return n, err
	}), have, max(total, 0))
	return have > 0, err
}

// begin discards what there is, and notes what comes now.
func (d *download) begin(resp *http.Response) error {
	if err := d.discard(); err != nil {
		return err
	}
	validator := resp.Header.Get("ETag")
	if validator == "" || strings.HasPrefix(validator, "W/") {
		validator = resp.Header.Get("Last-Modified")
	}
	note, err := json.Marshal(origin{URL: d.place(), Validator: validator})
	if err != nil {
		return err
	}
	return d.Dir.WriteFile(d.Name+".json", note, 0o600)
}

func (d *download) origin() origin {
	var of origin
	note, err := d.Dir.ReadFile(d.Name + ".json")
	if err != nil || json.Unmarshal(note, &of) != nil || of.URL != d.place() {
		return origin{}
	}
	return of
}

// place is the URL without its query.
func (d *download) place() string {
	u := url.URL{Scheme: d.URL.Scheme, Host: d.URL.Host, Path: d.URL.Path}
	return u.String()
}

func startsAt(resp *http.Response, at int64) bool {
	return strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", at))
}

// answered is the error of a status that is not what was asked for.
func answered(u *url.URL, resp *http.Response) error {
	err := fmt.Errorf("%s answered %s", Redact(u), resp.Status)
	switch code := resp.StatusCode; {
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code == http.StatusTooEarly, code >= 500:
		seconds, convErr := strconv.Atoi(resp.Header.Get("Retry-After"))
		if convErr != nil {
			seconds = 0
		}
		return passing{error: err, after: time.Duration(seconds) * time.Second}
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return fmt.Errorf("%w: it wants other credentials; see the token_file that the task names, and what it may read", err)
	case code == http.StatusNotFound, code == http.StatusGone:
		return fmt.Errorf("%w; correct the task's url, or put the file there", err)
	}
	return err
}

// plain is what went wrong with a request, without the URL's secrets, and whether
// that may pass.
func plain(u *url.URL, err error) error {
	var with *url.Error
	if errors.As(err, &with) {
		err = with.Err
	}
	said := fmt.Errorf("get %s: %w", Redact(u), err)
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.Is(err, errRedirect):
		return said
	case errors.As(err, &name) && name.IsNotFound:
		return fmt.Errorf("%w; correct the task's url, or this server's DNS", said)
	case errors.As(err, &certificate):
		return fmt.Errorf("%w; have this server trust whoever issued the certificate (on Debian /usr/local/share/ca-certificates, then update-ca-certificates)", said)
	case errors.As(err, &noTLS), errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w; that port does not speak https", said)
	}
	return passing{error: said}
}
