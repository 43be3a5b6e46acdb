package callback

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// Key signs calls. It is hidden wherever it is printed.
type Key struct{ secret []byte }

// NewKey returns the key with a secret.
func NewKey(secret []byte) Key { return Key{secret} }

// Reveal returns the key in the form that receivers need.
func (k Key) Reveal() string { return "whsec_" + base64.StdEncoding.EncodeToString(k.secret) }

// String hides the key.
func (Key) String() string { return "whsec_********" }

// GoString hides the key.
func (k Key) GoString() string { return k.String() }

// sign signs a message, by Standard Webhooks 1.0.0.
func (k Key) sign(id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, k.secret)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// message is the body of a call.
type message struct {
	Type      string          `json:"type"`
	Timestamp time.Time       `json:"timestamp"`
	Data      json.RawMessage `json:"data"`
}

// request returns the signed request of a call. Its id and body are the same at each
// attempt.
func (c *Caller) request(ctx context.Context, call store.Call) (*http.Request, error) {
	body, err := json.Marshal(message{Type: "task." + string(call.Event), Timestamp: call.At, Data: call.Data})
	if err != nil {
		return nil, fmt.Errorf("encode the body: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, call.URL, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	timestamp := strconv.FormatInt(call.StartedAt.Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "tasker/"+c.opts.Version)
	req.Header.Set("Webhook-Id", call.ID)
	req.Header.Set("Webhook-Timestamp", timestamp)
	req.Header.Set("Webhook-Signature", c.opts.Key.sign(call.ID, timestamp, body))
	return req, nil
}
