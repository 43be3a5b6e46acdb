package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"reflect"
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

// outputResource serves the output of the handlers of one task type.
type outputResource struct{ typeResource }

type outputInput struct {
	Ref      string `path:"ref" doc:"The task's id, or its identifier, percent-encoded."`
	Endpoint string `path:"endpoint" doc:"The name of the endpoint." example:"loadbalancer-1"`
	Accept   string `header:"Accept" hidden:"true"`
}

// Output is the output of a handler on one endpoint, as far as it was kept.
type Output struct {
	Endpoint  string         `json:"endpoint" doc:"The name of the endpoint."`
	Attempt   int            `json:"attempt" doc:"The attempt that printed the output."`
	Bytes     int64          `json:"bytes" doc:"How many bytes the handler printed in total."`
	Truncated bool           `json:"truncated" doc:"A part of the output was left out."`
	Chunks    []tasker.Chunk `json:"chunks" doc:"The pieces that were kept."`
}

func (r outputResource) register() {
	op := r.operation(http.MethodGet, "/{ref}/responses/{endpoint}/output", "output", "Get the output of the handler",
		"The output of the handler in the last attempt. The beginning and the end are kept; a line between them shows how many bytes were left out. "+
			"As JSON: the pieces that were kept, with their offsets (`data` is base64).")
	number, boolean := &huma.Schema{Type: huma.TypeInteger}, &huma.Schema{Type: huma.TypeBoolean}
	schemas := r.huma.OpenAPI().Components.Schemas
	op.Responses = map[string]*huma.Response{"200": {
		Description: "The output.",
		Headers: map[string]*huma.Param{
			outputBytesHeader:     {Description: "How many bytes the handler printed in total.", Schema: number},
			outputTruncatedHeader: {Description: "A part of the output was left out.", Schema: boolean},
			outputAttemptHeader:   {Description: "The attempt that printed the output.", Schema: number},
		},
		Content: map[string]*huma.MediaType{
			"text/plain": {
				Schema:  &huma.Schema{Type: huma.TypeString},
				Example: "Fetching…\n[... 1048576 bytes left out ...]\nDone.\n",
			},
			"application/json": {Schema: schemas.Schema(reflect.TypeFor[Output](), true, "Output")},
		},
	}}
	huma.Register(r.huma, op, r.output)
}

func (r outputResource) output(ctx context.Context, in *outputInput) (*huma.StreamResponse, error) {
	if err := r.checkRef(ctx, in.Ref); err != nil {
		return nil, err
	}
	notFound := r.notFound(in.Ref) + ", or it has no response of the endpoint " + quote(in.Endpoint)
	if tasker.ValidateEndpoint(in.Endpoint) != nil {
		return nil, newProblem(http.StatusNotFound, notFound)
	}
	recordOf(ctx).endpoint = in.Endpoint
	out, err := r.store.Output(ctx, r.taskType.Name, in.Ref, in.Endpoint)
	if err != nil {
		return nil, r.problem(ctx, err, notFound)
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		hctx.SetHeader(outputBytesHeader, strconv.FormatInt(out.Bytes, 10))
		hctx.SetHeader(outputTruncatedHeader, strconv.FormatBool(out.Truncated))
		hctx.SetHeader(outputAttemptHeader, strconv.Itoa(out.Attempt))
		hctx.SetHeader("Vary", "Accept")
		if strings.Contains(in.Accept, "application/json") {
			if out.Chunks == nil {
				out.Chunks = []tasker.Chunk{}
			}
			hctx.SetHeader("Content-Type", "application/json")
			_ = r.huma.Marshal(hctx.BodyWriter(), "application/json", Output{out.Endpoint, out.Attempt, out.Bytes, out.Truncated, out.Chunks})
			return
		}
		hctx.SetHeader("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(hctx.BodyWriter(), outputText(out))
	}}, nil
}

// outputText joins the chunks of an output, with a line in place of each gap. It replaces
// bytes that are not UTF-8; the JSON form has them.
func outputText(out store.Output) string {
	chunks := slices.SortedStableFunc(slices.Values(out.Chunks), func(a, b tasker.Chunk) int { return int(a.Offset - b.Offset) })
	var b strings.Builder
	var end int64 // of the text so far
	for _, c := range chunks {
		if gap := c.Offset - end; gap > 0 {
			writeGap(&b, gap)
			end = c.Offset
		}
		if overlap := end - c.Offset; overlap < int64(len(c.Data)) {
			b.Write(c.Data[overlap:])
			end = c.Offset + int64(len(c.Data))
		}
	}
	if out.Truncated && out.Bytes > end {
		writeGap(&b, out.Bytes-end)
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

func writeGap(b *strings.Builder, bytes int64) {
	if b.Len() > 0 && !strings.HasSuffix(b.String(), "\n") {
		b.WriteByte('\n')
	}
	fmt.Fprintf(b, "[... %d bytes left out ...]\n", bytes)
}
