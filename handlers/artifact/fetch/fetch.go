// Package fetch brings a file, of which the SHA-256 is known, onto this server: by
// http, https or from the server's own disk.
//
// What has come is kept in a partial file, so that the next try goes on where the
// last one ended, also in another process; beside it is noted which file of the
// server it is of (ETag or Last-Modified), since a server that has changed the file
// meanwhile, or that cannot send a part, sends it from the beginning. A try that
// gets nothing for the idle time is given up. Tries go on with back-off until
// nothing has come for the patience, which is at most half the time that ctx leaves:
// so a server that is down is said to be that, and not that time ran out. Whatever
// has come is believed only when size and SHA-256 are right.
//
// A redirect leads to http or https only, never from https to http, and a token is
// sent to the host only that the URL names. Errors say of URLs neither user nor
// query, where secrets may be.
package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// Request is one file.
type Request struct {
	URL *url.URL
	// Authorization is the value of that header; empty is none.
	Authorization string
	// SHA256 is in lower case hex.
	SHA256 string
	// Max bounds the size.
	Max int64
	// Dir has the partial file, of the name Name, and Name.json with what it is of.
	// Nobody else may use them.
	Dir  *os.Root
	Name string
	// Room says whether so many bytes more can be written.
	Room func(bytes int64) error
	// Progress is told how many bytes there are, and will be; 0 if that is not known.
	Progress func(have, total int64)
	// Log is told of tries that failed.
	Log io.Writer
}

// Fetcher fetches files.
type Fetcher struct {
	// Idle is how long a try may get nothing; Patience how long all tries together.
	Idle, Patience time.Duration
	// Retry is how the waits between tries grow.
	Retry backoff.Policy
}

// passing is an error after which another try may succeed.
type passing struct {
	error
	// after is how long the server asks to wait.
	after time.Duration
}

func (p passing) Unwrap() error { return p.error }

// Get returns the file, open for reading. Its partial file stays there, for the
// next call to find, until the caller removes it.
func (f *Fetcher) Get(ctx context.Context, r Request) (*os.File, error) {
	if r.have() > 0 {
		// An earlier process may have had all of it.
		if file, err := r.verified(); err == nil {
			return file, nil
		}
	}
	patience := f.Patience
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(deadline)/2)
	}
	get := r.copyFile
	if r.URL.Scheme != "file" {
		idle := min(f.Idle, patience)
		client := newClient(r.URL, idle)
		defer client.CloseIdleConnections()
		get = (&download{Request: r, idle: idle, client: client}).try
	}
	last := time.Now() // when something came
	for tries := 0; ; tries++ {
		had := r.have()
		resumed, err := get(ctx)
		if err == nil {
			var file *os.File
			if file, err = r.verified(); err == nil {
				return file, nil
			}
			// It is of no use; but a part of another file may have been in it, once.
			err = errors.Join(err, r.discard())
			if resumed {
				err = passing{error: err}
			}
		}
		var pass passing
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%w, downloading %s (last: %w)", context.Cause(ctx), Redact(r.URL), err)
		case errors.Is(err, syscall.ENOSPC):
			return nil, errors.Join(fmt.Errorf("the disk is full: %w; make room there and run the task again", err), r.discard())
		case !errors.As(err, &pass):
			return nil, err
		}
		if r.have() > had {
			last, tries = time.Now(), 0
		}
		since := time.Since(last)
		if since >= patience {
			return nil, fmt.Errorf("gave up on %s after %s without anything new: %w; see whether the server is up and can be reached from here, and run the task again", Redact(r.URL), since.Round(100*time.Millisecond), err)
		}
		wait := min(max(f.Retry.Wait(tries), pass.after), patience-since)
		fmt.Fprintf(r.Log, "%v; trying again in %s\n", err, wait.Round(time.Millisecond))
		if backoff.Sleep(ctx, wait) != nil {
			return nil, fmt.Errorf("%w, downloading %s (last: %w)", context.Cause(ctx), Redact(r.URL), err)
		}
	}
}

// Redact is a URL as people may read it.
func Redact(u *url.URL) string {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	if u.RawQuery != "" {
		shown.RawQuery = "…"
	}
	return shown.String()
}

// have is how much of the file there is.
func (r *Request) have() int64 {
	fi, err := r.Dir.Stat(r.Name)
	if err != nil {
		return 0
	}
	return fi.Size()
}

// discard removes what there is.
func (r *Request) discard() error {
	var errs []error
	for _, name := range []string{r.Name + ".json", r.Name} {
		if err := r.Dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// verified opens the file if it is the one.
func (r *Request) verified() (*os.File, error) {
	file, err := r.Dir.Open(r.Name)
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	size, err := io.Copy(hash, file)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	got := hex.EncodeToString(hash.Sum(nil))
	if err == nil && got == r.SHA256 {
		return file, nil
	}
	_ = file.Close()
	if err != nil {
		return nil, fmt.Errorf("read what was downloaded: %w", err)
	}
	return nil, fmt.Errorf("the SHA-256 of %s (%d bytes) is %s, not %s as the task says; correct the task, or find out who has changed the file", Redact(r.URL), size, got, r.SHA256)
}

// fill appends what is read to the partial file, which has so many bytes already.
func (r *Request) fill(from io.Reader, have, total int64) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if have == 0 {
		flags |= os.O_TRUNC
	}
	if total > r.Max {
		return tooLarge(r.URL, total, r.Max)
	}
	if err := r.Room(max(total-have, 0)); err != nil {
		return err
	}
	file, err := r.Dir.OpenFile(r.Name, flags, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	r.Progress(have, total)
	buffer := make([]byte, 256<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if have += int64(n); have > r.Max {
				return errors.Join(tooLarge(r.URL, have, r.Max), r.discard())
			}
			if _, err := file.Write(buffer[:n]); err != nil {
				return err
			}
			r.Progress(have, total)
		}
		if errors.Is(err, io.EOF) {
			return file.Close()
		}
		if err != nil {
			return passing{error: err}
		}
	}
}

func tooLarge(u *url.URL, size, limit int64) error {
	return fmt.Errorf("%s has %d bytes or more, and max_size is %d; raise that if the file is right", Redact(u), size, limit)
}

// copyFile copies a file of this server, so that nobody can change it once it is
// verified.
func (r *Request) copyFile(ctx context.Context) (bool, error) {
	// Opening what is no file, a pipe say, must not block.
	file, err := os.OpenFile(r.URL.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false, fmt.Errorf("%w on this server; correct the task's url, or put the file there", err)
	}
	defer file.Close()
	fi, err := file.Stat()
	if err != nil {
		return false, err
	}
	if !fi.Mode().IsRegular() {
		return false, fmt.Errorf("%s is no file", r.URL.Path)
	}
	return false, r.fill(reader(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return file.Read(p)
	}), 0, fi.Size())
}

// reader is a function that reads.
type reader func([]byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }

// Head asks for the file's size, without fetching it; -1 if the server does not say.
func (f *Fetcher) Head(ctx context.Context, u *url.URL, authorization string) (int64, error) {
	if u.Scheme == "file" {
		fi, err := os.Stat(u.Path)
		if err != nil {
			return -1, err
		}
		return fi.Size(), nil
	}
	client := newClient(u, f.Idle)
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, f.Idle)
	defer cancel()
	req, err := newRequest(ctx, http.MethodHead, u, authorization)
	if err != nil {
		return -1, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return -1, plain(u, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.ContentLength, nil
	case http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusForbidden:
		return -1, nil // what is signed for GET only
	}
	return -1, answered(u, resp)
}
