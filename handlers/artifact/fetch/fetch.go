// Package fetch downloads a file with a known SHA-256 by http or https, or copies it
// from this server's own disk. Package artifact uses it to fetch releases.
//
// The received bytes are kept in a partial file, so that the next attempt continues
// where the last one ended, also in another process. Beside it, a record names the
// file of the server to which it belongs (by ETag or Last-Modified): if the server has
// changed the file, or cannot send a part of it, it sends the whole file again. An
// attempt fails if nothing arrives for IdleTimeout. Attempts are repeated with back-off
// until nothing has arrived for GiveUpAfter, which is at most half of the time that ctx
// leaves: an unreachable server is then reported as such, and not as a timeout of the
// task. The file is used only if its size and its SHA-256 are right.
//
// Only allowed sources are used, also after a redirect. Redirects are followed to http and
// https only, never from https to http. A token is sent only to the host that the URL
// names. Errors show URLs without user and query, which can contain secrets.
package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// Request describes one file to fetch.
type Request struct {
	URL *url.URL
	// Authorization is the value of the header; empty sends none.
	Authorization string
	// SHA256 is in lower-case hex.
	SHA256 string
	// MaxSize bounds the file's size in bytes.
	MaxSize int64
	// Dir contains the partial file, called Name, and its record, called Name.json.
	// Nothing else may use these names.
	Dir  *os.Root
	Name string
	// CheckSpace returns an error if the disk has no space for so many more bytes.
	CheckSpace func(bytes int64) error
	// Progress is called with the received and the total size; 0 if the total is unknown.
	Progress func(received, total int64)
	// Log receives a line for each failed attempt.
	Log io.Writer
}

// Fetcher fetches files.
type Fetcher struct {
	// Sources are the allowed places.
	Sources Sources
	// IdleTimeout ends an attempt during which nothing arrives. GiveUpAfter ends all
	// attempts when nothing has arrived for so long.
	IdleTimeout, GiveUpAfter time.Duration
	// Retry spaces the attempts.
	Retry backoff.Policy
}

// retryableError is an error after which another attempt may succeed.
type retryableError struct {
	error
	// after is the time that the server asks to wait.
	after time.Duration
}

func (e retryableError) Unwrap() error { return e.error }

// Get returns the file, open for reading. The partial file stays, for the next call,
// until the caller removes it.
func (f *Fetcher) Get(ctx context.Context, r Request) (*os.File, error) {
	if err := f.Sources.Check(r.URL); err != nil {
		return nil, err
	}
	if r.partialSize() > 0 {
		// An earlier process may have received all of it.
		if file, err := r.openVerified(); err == nil {
			return file, nil
		}
	}
	giveUpAfter := f.GiveUpAfter
	if deadline, ok := ctx.Deadline(); ok {
		giveUpAfter = min(giveUpAfter, time.Until(deadline)/2)
	}
	receive := func(ctx context.Context) (bool, error) { return r.copyFile(ctx, f.Sources) }
	if r.URL.Scheme != "file" {
		idle := min(f.IdleTimeout, giveUpAfter)
		client := newClient(r.URL, f.Sources, idle)
		defer client.CloseIdleConnections()
		receive = (&download{Request: r, idle: idle, client: client}).receive
	}
	lastReceived := time.Now()
	for tries := 0; ; tries++ {
		before := r.partialSize()
		file, err := r.tryOnce(ctx, receive)
		var retryable retryableError
		switch {
		case err == nil:
			return file, nil
		case ctx.Err() != nil:
			return nil, interrupted(ctx, r.URL, err)
		case errors.Is(err, syscall.ENOSPC):
			return nil, errors.Join(fmt.Errorf("the disk is full: %w; free some space and run the task again", err), r.discard())
		case !errors.As(err, &retryable):
			return nil, err
		}
		if r.partialSize() > before {
			lastReceived, tries = time.Now(), 0
		}
		idle := time.Since(lastReceived)
		if idle >= giveUpAfter {
			return nil, fmt.Errorf("gave up on %s after %s without anything new: %w; check whether the server is up and can be reached from here, and run the task again", Redact(r.URL), idle.Round(100*time.Millisecond), err)
		}
		wait := min(max(f.Retry.Wait(tries), retryable.after), giveUpAfter-idle)
		fmt.Fprintf(r.Log, "%v; trying again in %s\n", err, wait.Round(time.Millisecond))
		if backoff.Sleep(ctx, wait) != nil {
			return nil, interrupted(ctx, r.URL, err)
		}
	}
}

func interrupted(ctx context.Context, u *url.URL, last error) error {
	return fmt.Errorf("%w, downloading %s (last: %w)", context.Cause(ctx), Redact(u), last)
}

// tryOnce receives the file, or the missing part of it, and verifies it.
func (r *Request) tryOnce(ctx context.Context, receive func(context.Context) (resumed bool, err error)) (*os.File, error) {
	resumed, err := receive(ctx)
	if err != nil {
		return nil, err
	}
	file, err := r.openVerified()
	if err == nil {
		return file, nil
	}
	err = errors.Join(err, r.discard())
	if resumed {
		// The earlier attempts may have received a part of another file.
		err = retryableError{error: err}
	}
	return nil, err
}

// Redact formats a URL without its user and its query, which can contain secrets.
func Redact(u *url.URL) string {
	shown := withoutQuery(u)
	if u.RawQuery != "" {
		shown.RawQuery = "…"
	}
	return shown.String()
}

// withoutQuery returns a URL without its user and its query.
func withoutQuery(u *url.URL) *url.URL {
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
}

// partialSize returns the size of the partial file.
func (r *Request) partialSize() int64 {
	fi, err := r.Dir.Stat(r.Name)
	if err != nil {
		return 0
	}
	return fi.Size()
}

// discard removes the partial file and its record.
func (r *Request) discard() error {
	var errs []error
	for _, name := range []string{r.Name + ".json", r.Name} {
		if err := r.Dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// openVerified opens the partial file if it has the right SHA-256.
func (r *Request) openVerified() (*os.File, error) {
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
		return nil, fmt.Errorf("read the downloaded file: %w", err)
	}
	remedy := "correct the task, or find out who changed the file"
	if encoding := r.readOrigin().Encoding; encoding != "" {
		// The header makes other clients unpack the file before they compute a sum of it.
		remedy = fmt.Sprintf("the server sent it with Content-Encoding: %s, which tasker does not undo; let the server send the archive without this header, or put the SHA-256 of the file as sent into the task", encoding)
	}
	return nil, fmt.Errorf("the SHA-256 of %s (%d bytes) is %s, not %s as in the task; %s", Redact(r.URL), size, got, r.SHA256, remedy)
}

// store appends the content of a reader to the partial file, which already has some
// bytes. A total of 0 is unknown.
func (r *Request) store(from io.Reader, have, total int64) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if have == 0 {
		flags |= os.O_TRUNC
	}
	if total > r.MaxSize {
		return tooLarge(r.URL, total, r.MaxSize)
	}
	if err := r.CheckSpace(max(total-have, 0)); err != nil {
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
			if have += int64(n); have > r.MaxSize {
				return errors.Join(tooLarge(r.URL, have, r.MaxSize), r.discard())
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
			return retryableError{error: err}
		}
	}
}

func tooLarge(u *url.URL, size, limit int64) error {
	return fmt.Errorf("%s has %d bytes or more, and max_size is %d; raise that if the file is right", Redact(u), size, limit)
}

// copyFile copies a file of this server, so that nobody can change it after it has been
// verified.
func (r *Request) copyFile(ctx context.Context, sources Sources) (bool, error) {
	// Without O_NONBLOCK, opening a pipe would block.
	file, err := sources.open(r.URL, os.O_RDONLY|syscall.O_NONBLOCK)
	if err != nil {
		return false, fmt.Errorf("%w on this server; correct the task's url, or put the file there", err)
	}
	defer file.Close()
	fi, err := file.Stat()
	if err != nil {
		return false, err
	}
	if !fi.Mode().IsRegular() {
		return false, fmt.Errorf("%s is not a regular file", r.URL.Path)
	}
	return false, r.store(readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return file.Read(p)
	}), 0, fi.Size())
}

// readerFunc is an io.Reader made of a function.
type readerFunc func([]byte) (int, error)

func (r readerFunc) Read(p []byte) (int, error) { return r(p) }
