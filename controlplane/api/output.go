package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// The headers of an output.
const (
	outputBytesHeader     = "Tasker-Output-Bytes"
	outputTruncatedHeader = "Tasker-Output-Truncated"
	outputAttemptHeader   = "Tasker-Attempt"
)

type outputInput struct {
	Ref      string `path:"ref" doc:"The task's id, or its identifier, percent-encoded."`
	Endpoint string `path:"endpoint" doc:"The endpoint's name." example:"loadbalancer-1"`
	Accept   string `header:"Accept" hidden:"true"`
}

// Output is what a handler printed on one endpoint, as far as it was kept.
type Output struct {
	Endpoint  string         `json:"endpoint" doc:"The name of the endpoint."`
	Attempt   int            `json:"attempt" doc:"The attempt that printed the output."`
	Bytes     int64          `json:"bytes" doc:"How many bytes the handler printed in total."`
	Truncated bool           `json:"truncated" doc:"A part of the output was left out."`
	Chunks    []tasker.Chunk `json:"chunks" doc:"The pieces that were kept."`
}

func (r taskRoutes) outputRoute() {
	op := r.operation(http.MethodGet, "/{ref}/responses/{endpoint}/output", "output", "Get what the handler printed", outputText)
	op.Responses = outputResponses(r.huma.OpenAPI().Components.Schemas)
	huma.Register(r.huma, op, r.output)
}

func (r taskRoutes) output(ctx context.Context, in *outputInput) (*huma.StreamResponse, error) {
	if err := r.look(ctx, in.Ref); err != nil {
		return nil, err
	}
	absent := r.absent(in.Ref) + ", or no response to it of the endpoint " + strconv.Quote(cut(in.Endpoint))
	if tasker.ValidateEndpoint(in.Endpoint) != nil {
		return nil, problem(http.StatusNotFound, absent)
	}
	seen(ctx).endpoint = in.Endpoint
	out, err := r.store.Output(ctx, r.Name, in.Ref, in.Endpoint)
	if err != nil {
		return nil, r.failure(ctx, err, absent)
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		hctx.SetHeader(outputBytesHeader, strconv.FormatInt(out.Bytes, 10))
		hctx.SetHeader(outputTruncatedHeader, strconv.FormatBool(out.Truncated))
		hctx.SetHeader(outputAttemptHeader, strconv.Itoa(out.Attempt))
		hctx.SetHeader("Vary", "Accept")
		if strings.Contains(in.Accept, "application/json") {
			hctx.SetHeader("Content-Type", "application/json")
			_ = r.huma.Marshal(hctx.BodyWriter(), "application/json", pieces(out))
			return
		}
		hctx.SetHeader("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(hctx.BodyWriter(), text(out))
	}}, nil
}

func pieces(out store.Output) Output {
	chunks := slices.Clone(out.Chunks)
	if chunks == nil {
		chunks = []tasker.Chunk{}
	}
	return Output{out.Endpoint, out.Attempt, out.Bytes, out.Truncated, chunks}
}

// text joins the pieces of an output, with a line where some was left out.
func text(out store.Output) string {
	chunks := slices.SortedStableFunc(slices.Values(out.Chunks), func(a, b tasker.Chunk) int { return int(a.Offset - b.Offset) })
	var b strings.Builder
	var at int64
	for _, c := range chunks {
		if gap := c.Offset - at; gap > 0 {
			leftOut(&b, gap)
			at = c.Offset
		}
		if known := at - c.Offset; known < int64(len(c.Data)) {
			b.Write(c.Data[known:])
			at = c.Offset + int64(len(c.Data))
		}
	}
	if out.Truncated && out.Bytes > at {
		leftOut(&b, out.Bytes-at)
	}
	return b.String()
}

func leftOut(b *strings.Builder, n int64) {
	if b.Len() > 0 && !strings.HasSuffix(b.String(), "\n") {
		b.WriteByte('\n')
	}
	fmt.Fprintf(b, "[... %d bytes left out ...]\n", n)
}
