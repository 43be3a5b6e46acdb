package api

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// rejectAmbiguousQuery rejects a query string that clients and servers may read in
// different ways.
func (r resource) rejectAmbiguousQuery(ctx huma.Context, next func(huma.Context)) {
	u := ctx.URL()
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		_ = huma.WriteErr(r.huma, ctx, http.StatusBadRequest, "the query string cannot be read: "+err.Error())
		return
	}
	for name, values := range query {
		if len(values) > 1 {
			_ = huma.WriteErr(r.huma, ctx, http.StatusUnprocessableEntity, "validation failed", &huma.ErrorDetail{
				Location: "query." + truncate(name), Message: fmt.Sprintf("is given %d times", len(values)),
			})
			return
		}
	}
	next(ctx)
}

// rejectEncodedBody rejects a compressed body, which would otherwise be reported as invalid
// text.
func (r resource) rejectEncodedBody(ctx huma.Context, next func(huma.Context)) {
	encoding := ctx.Header("Content-Encoding")
	if encoding == "" || strings.EqualFold(encoding, "identity") {
		next(ctx)
		return
	}
	ctx.SetHeader("Accept-Encoding", "identity")
	_ = huma.WriteErr(r.huma, ctx, http.StatusUnsupportedMediaType, "the body must be sent without a Content-Encoding",
		&huma.ErrorDetail{Location: "header.Content-Encoding", Message: "is " + quote(encoding)})
}

// requireJSON rejects other content types, and a missing one: a page of another site can
// send those without the browser's preflight request.
func (r resource) requireJSON(ctx huma.Context, next func(huma.Context)) {
	contentType := ctx.Header("Content-Type")
	media, params, err := mime.ParseMediaType(contentType)
	charset := params["charset"]
	message := ""
	switch {
	case contentType == "":
		message = "is missing"
	case err != nil, media != "application/json":
		message = "is " + quote(contentType)
	case charset != "" && !strings.EqualFold(charset, "utf-8"):
		message = "has the charset " + quote(charset)
	default:
		next(ctx)
		return
	}
	_ = huma.WriteErr(r.huma, ctx, http.StatusUnsupportedMediaType, "the content type must be application/json, in UTF-8",
		&huma.ErrorDetail{Location: "header.Content-Type", Message: message})
}

// rejectBody rejects a body for a call that ignores it: the caller would believe that it
// has an effect.
func (r resource) rejectBody(ctx huma.Context, next func(huma.Context)) {
	const prefix = 16                                            // bytes suffice to see that the body is not empty
	b, _ := io.ReadAll(io.LimitReader(ctx.BodyReader(), prefix)) // after an error, b has what was read
	if body := strings.TrimSpace(string(b)); body != "" && body != "{}" {
		_ = huma.WriteErr(r.huma, ctx, http.StatusUnprocessableEntity, "this call takes no body",
			&huma.ErrorDetail{Location: "body", Message: "must be empty"})
		return
	}
	next(ctx)
}
