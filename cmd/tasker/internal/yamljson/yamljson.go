// Package yamljson converts a YAML document to JSON. It keeps each value as it is written:
// 1.10 does not become 1.1, and a number that JSON cannot express is an error.
package yamljson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// maxSize bounds the JSON, in bytes: aliases can make it far larger than the document,
	// and the control plane accepts no larger request.
	maxSize = 4 << 20
	// maxDepth bounds the nesting.
	maxDepth = 200
)

// Convert returns the JSON of a file with one YAML document. An error names the line.
func Convert(content []byte) (json.RawMessage, error) {
	line := 0
	for text := range bytes.Lines(content) {
		if line++; !utf8.Valid(text) {
			return nil, fmt.Errorf("line %d: is not valid UTF-8", line)
		}
	}
	file, err := parser.ParseBytes(content, 0)
	if err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) && syntax.GetToken() != nil {
			return nil, errorAt(syntax.GetToken(), "%s", syntax.GetMessage())
		}
		return nil, err
	}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil || doc.Body.Type() == ast.CommentType:
		case body != nil:
			return nil, errorAt(doc.Body.GetToken(), "a second document begins; the file may have only one document")
		default:
			body = doc.Body
		}
	}
	if body == nil {
		return nil, errors.New("it is empty")
	}
	c := converter{anchors: map[string]ast.Node{}}
	if err := c.convert(body, 0); err != nil {
		return nil, err
	}
	return c.out.Bytes(), nil
}

// errorAt returns an error at the position of a token.
func errorAt(t *token.Token, format string, args ...any) error {
	return fmt.Errorf("line %d: %s", t.Position.Line, fmt.Sprintf(format, args...))
}

// converter writes the nodes of one document as JSON.
type converter struct {
	out     bytes.Buffer
	anchors map[string]ast.Node
}

func (c *converter) convert(n ast.Node, depth int) error {
	switch {
	case depth > maxDepth:
		return errorAt(n.GetToken(), "is nested deeper than %d levels, or an alias contains itself", maxDepth)
	case c.out.Len() > maxSize:
		return errorAt(n.GetToken(), "the document is larger than %d bytes with its aliases", maxSize)
	}
	n, tag, err := c.resolve(n)
	if err != nil {
		return err
	}
	switch n := n.(type) {
	case ast.MapNode:
		return c.convertMapping(n, depth)
	case *ast.SequenceNode:
		return c.convertSequence(n, depth)
	default:
		return c.convertScalar(n, tag)
	}
}

// resolve follows tags, anchors and aliases to a value. It returns the value's tag, or the
// empty string.
func (c *converter) resolve(n ast.Node) (value ast.Node, tag string, err error) {
	for range maxDepth {
		switch node := n.(type) {
		case *ast.TagNode:
			tag, n = node.Start.Value, node.Value
		case *ast.AnchorNode:
			c.anchors[node.Name.GetToken().Value] = node.Value
			n = node.Value
		case *ast.AliasNode:
			name := node.Value.GetToken().Value
			target, found := c.anchors[name]
			if !found {
				return nil, "", errorAt(node.GetToken(), "there is no anchor &%s before *%[1]s", name)
			}
			n = target
		default:
			return n, tag, nil
		}
	}
	return nil, "", errorAt(n.GetToken(), "an alias contains itself")
}

func (c *converter) convertSequence(n *ast.SequenceNode, depth int) error {
	c.out.WriteByte('[')
	for i, item := range n.Values {
		if i > 0 {
			c.out.WriteByte(',')
		}
		if err := c.convert(item, depth+1); err != nil {
			return err
		}
	}
	c.out.WriteByte(']')
	return nil
}

func (c *converter) convertMapping(n ast.MapNode, depth int) error {
	entries, err := c.entries(n, depth)
	if err != nil {
		return err
	}
	c.out.WriteByte('{')
	for i, e := range entries {
		if i > 0 {
			c.out.WriteByte(',')
		}
		c.writeText(e.name)
		c.out.WriteByte(':')
		if err := c.convert(e.value, depth+1); err != nil {
			return err
		}
	}
	c.out.WriteByte('}')
	return nil
}

// entry is one key of a mapping with its value.
type entry struct {
	name  string
	value ast.Node
}

// entries returns the entries of a mapping. An own entry takes precedence over one that a
// merge key (<<) adds.
func (c *converter) entries(n ast.MapNode, depth int) ([]entry, error) {
	var own, merged []entry
	for it := n.MapRange(); it.Next(); {
		key := it.Key()
		if key.IsMergeKey() {
			more, err := c.merge(it.Value(), depth+1)
			if err != nil {
				return nil, err
			}
			merged = append(merged, more...)
			continue
		}
		switch key.Type() {
		case ast.StringType, ast.IntegerType, ast.FloatType, ast.BoolType, ast.NullType:
			own = append(own, entry{key.GetToken().Value, it.Value()})
		default:
			return nil, errorAt(key.GetToken(), "a key must be a text")
		}
	}
	known := map[string]bool{}
	for _, e := range own {
		known[e.name] = true
	}
	for _, e := range merged {
		if !known[e.name] {
			known[e.name] = true
			own = append(own, e)
		}
	}
	return own, nil
}

// merge returns the entries that a merge key adds: those of one mapping, or of a list of
// mappings, of which the first has precedence.
func (c *converter) merge(n ast.Node, depth int) ([]entry, error) {
	if depth > maxDepth {
		return nil, errorAt(n.GetToken(), "an alias contains itself")
	}
	n, _, err := c.resolve(n)
	if err != nil {
		return nil, err
	}
	switch n := n.(type) {
	case ast.MapNode:
		return c.entries(n, depth)
	case *ast.SequenceNode:
		var all []entry
		for _, item := range n.Values {
			more, err := c.merge(item, depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
		}
		return all, nil
	}
	return nil, errorAt(n.GetToken(), "<< needs a mapping")
}

// convertScalar writes a single value.
func (c *converter) convertScalar(n ast.Node, tag string) error {
	text := n.GetToken().Value
	if literal, ok := n.(*ast.LiteralNode); ok {
		text = literal.Value.Value
	}
	isNumber, err := numeric(n, text)
	switch {
	case tag == "!!str":
		c.writeText(text)
	case tag != "":
		return errorAt(n.GetToken(), "the tag %s is not supported", tag)
	case err != nil:
		return err
	case isNumber:
		c.out.WriteString(text)
	case n.Type() == ast.NullType:
		c.out.WriteString("null")
	case n.Type() == ast.BoolType:
		c.out.WriteString(strconv.FormatBool(n.(*ast.BoolNode).Value)) //nolint:forcetypeassert,errcheck // its type
	case n.Type() == ast.StringType, n.Type() == ast.LiteralType:
		c.writeText(text)
	default:
		return errorAt(n.GetToken(), "%s is not a value", text)
	}
	return nil
}

var (
	jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)
	// yamlNumber is a number in YAML, also one that the parser takes for a text.
	yamlNumber = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
)

// numeric reports whether a value is a number that JSON can express as it is written. It
// returns an error for any other number.
func numeric(n ast.Node, text string) (bool, error) {
	switch n.Type() {
	case ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType:
	case ast.StringType:
		if n.GetToken().Type != token.StringType || !yamlNumber.MatchString(text) { // quoted, or a word
			return false, nil
		}
	default:
		return false, nil
	}
	if !jsonNumber.MatchString(text) {
		return false, errorAt(n.GetToken(), "JSON has no number %s: put it in quotes to send it as a text, or write a decimal number without leading zeros", text)
	}
	return true, nil
}

// writeText writes a JSON string.
func (c *converter) writeText(s string) {
	e := json.NewEncoder(&c.out)
	e.SetEscapeHTML(false)
	_ = e.Encode(s)                 // a string
	c.out.Truncate(c.out.Len() - 1) // without the line end
}
