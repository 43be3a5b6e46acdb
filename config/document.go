package config

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// document is one file on its way into a struct. It decodes the syntax tree
// itself, because a decoder that stops at the first error and forgets where the
// values stood cannot tell people all that is wrong, and where.
type document struct {
	file string
	env  func(string) (string, bool)
	// at is where the value, or else the key, of each path stands.
	at       map[string]token.Position
	problems Problems
}

// decode reads the file's content over the defaults in target.
func (d *document) decode(content []byte, target any) {
	d.at = map[string]token.Position{}
	file, err := parser.ParseBytes(content, 0)
	if err != nil {
		d.syntax(err, content)
		return
	}
	bodies := slices.DeleteFunc(file.Docs, func(doc *ast.DocumentNode) bool { return doc.Body == nil })
	switch len(bodies) {
	case 0:
	case 1:
		d.value(bodies[0].Body, reflect.ValueOf(target).Elem(), "")
	default:
		d.problemAt(bodies[1].Body.GetToken().Position, "", "a second YAML document begins here; remove the line ---")
	}
}

// syntax reports what the parser says.
func (d *document) syntax(err error, content []byte) {
	var parse yaml.Error
	if !errors.As(err, &parse) || parse.GetToken() == nil {
		d.problemAt(nil, "", "is no YAML: %v", err)
		return
	}
	pos, message := parse.GetToken().Position, "is no YAML: "+parse.GetMessage()
	if duplicate := (*yaml.DuplicateKeyError)(nil); errors.As(err, &duplicate) {
		message = parse.GetMessage() + "; remove one of the two"
	}
	lines := strings.Split(string(content), "\n")
	if pos.Line >= 1 && pos.Line <= len(lines) && strings.Contains(lines[pos.Line-1], "${") {
		message += `; put a value with ${…} in quotes`
	}
	d.problemAt(pos, "", "%s", message)
}

// value decodes one node of the syntax tree.
func (d *document) value(n ast.Node, v reflect.Value, key string) {
	if tag, ok := n.(*ast.TagNode); ok {
		n = tag.Value
	}
	if pos := n.GetToken().Position; d.at[key].Line == 0 || isScalar(n) {
		d.at[key] = *pos
	}
	if short, ok := v.Addr().Interface().(interface{ shorthand() any }); ok && isScalar(n) {
		v = reflect.ValueOf(short.shorthand()).Elem()
	}
	switch {
	case n.Type() == ast.NullType:
		// A key without a value keeps its default.
	case n.Type() == ast.AnchorType, n.Type() == ast.AliasType:
		d.problem(key, "anchors and aliases are not supported; write the value out")
	case isText(v):
		d.text(n, v, key)
	case v.Kind() == reflect.Struct:
		d.section(n, v, key)
	case v.Kind() == reflect.Map:
		d.table(n, v, key)
	case v.Kind() == reflect.Slice:
		d.list(n, v, key)
	}
}

// section decodes a mapping into a struct.
func (d *document) section(n ast.Node, v reflect.Value, key string) {
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		fields[v.Type().Field(i).Tag.Get("yaml")] = v.Field(i)
	}
	d.entries(n, key, func(name, path string, value ast.Node) {
		if field, ok := fields[name]; ok {
			d.value(value, field, path)
			return
		}
		d.unknown(path, value, slices.Sorted(maps.Keys(fields)))
	})
}

// unknown reports a key that does not exist, or does no longer.
func (d *document) unknown(path string, value ast.Node, known []string) {
	if advice, ok := formerKey(path); ok {
		d.problem(path, "%s", advice)
		return
	}
	if hasFormerKeys(path) && value.Type() == ast.MappingType {
		d.entries(value, path, func(_, path string, value ast.Node) { d.unknown(path, value, known) })
		return
	}
	d.problem(path, "unknown key; known here: %s", strings.Join(known, ", "))
}

// table decodes a mapping of texts.
func (d *document) table(n ast.Node, v reflect.Value, key string) {
	v.Set(reflect.MakeMap(v.Type()))
	d.entries(n, key, func(name, path string, value ast.Node) {
		elem := reflect.New(v.Type().Elem()).Elem()
		d.value(value, elem, path)
		v.SetMapIndex(reflect.ValueOf(name), elem)
	})
}

// entries calls f for each entry of a mapping.
func (d *document) entries(n ast.Node, key string, f func(name, path string, value ast.Node)) {
	mapping, ok := n.(ast.MapNode)
	if !ok {
		d.problem(key, "a section of keys and values belongs here, not %s", describe(n))
		return
	}
	for it := mapping.MapRange(); it.Next(); {
		name := it.Key().GetToken().Value
		path := name
		if key != "" {
			path = key + "." + name
		}
		d.at[path] = *it.Key().GetToken().Position
		f(name, path, it.Value())
	}
}

// list decodes a sequence.
func (d *document) list(n ast.Node, v reflect.Value, key string) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.problem(key, "a list belongs here, not %s", describe(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, item := range seq.Values {
		path := fmt.Sprintf("%s[%d]", key, i)
		d.value(item, v.Index(i), path)
		if item.Type() == ast.NullType {
			d.problem(path, "this entry is empty; fill it in or remove it")
		}
	}
}

// text decodes a scalar: the text as it stands in the file, whatever YAML makes
// of it, is read as what the key needs.
func (d *document) text(n ast.Node, v reflect.Value, key string) {
	if !isScalar(n) {
		d.problem(key, "a single value belongs here, not %s", describe(n))
		return
	}
	raw := n.GetToken().Value
	if literal, ok := n.(*ast.LiteralNode); ok {
		raw = literal.Value.Value
	}
	s, err := expand(raw, d.env)
	if err != nil {
		d.problem(key, "%v", err)
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(s)); err != nil {
			d.problem(key, "%v", err)
		}
		return
	}
	if v.Kind() == reflect.String {
		v.SetString(s)
		return
	}
	i, err := strconv.Atoi(s)
	if err != nil {
		d.problem(key, "%q is no whole number", s)
		return
	}
	v.SetInt(int64(i))
}

// problem reports what is wrong with a key; a key that is not in the file is
// looked for where it should have been. A key has one problem at most, and none
// if a part of it, or what it is part of, has one.
func (d *document) problem(key, format string, args ...any) {
	for _, p := range d.problems {
		if p.Key == key || within(p.Key, key) || within(key, p.Key) {
			return
		}
	}
	for at := key; ; at = parent(at) {
		if pos, ok := d.at[at]; ok {
			d.problemAt(&pos, key, format, args...)
			return
		}
		if at == "" {
			d.problemAt(nil, key, format, args...)
			return
		}
	}
}

func (d *document) problemAt(pos *token.Position, key, format string, args ...any) {
	p := Problem{File: d.file, Key: key, Message: fmt.Sprintf(format, args...)}
	if pos != nil {
		p.Line, p.Column = pos.Line, pos.Column
	}
	d.problems = append(d.problems, p)
}

// readable says whether the file as a whole could be read, so that it makes sense
// to look at its values.
func (d *document) readable() bool {
	return !slices.ContainsFunc(d.problems, func(p Problem) bool { return p.Key == "" })
}

// err returns all problems, in the order of the file.
func (d *document) err() error {
	if len(d.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(d.problems, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return d.problems
}

// parent is the path without its last part.
func parent(key string) string {
	i := strings.LastIndexAny(key, ".[")
	if i < 0 {
		return ""
	}
	return key[:i]
}

// within says whether a key is a part of a section or list.
func within(section, key string) bool {
	return section != "" && (strings.HasPrefix(key, section+".") || strings.HasPrefix(key, section+"["))
}

// isText says whether a value is written as a single scalar.
func isText(v reflect.Value) bool {
	_, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	return ok || v.Kind() == reflect.String || v.Kind() == reflect.Int
}

func isScalar(n ast.Node) bool {
	_, ok := n.(ast.ScalarNode)
	return ok && n.Type() != ast.AliasType && n.Type() != ast.AnchorType
}

func describe(n ast.Node) string {
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "a section of keys and values"
	case ast.SequenceType:
		return "a list"
	default:
		return "a single value"
	}
}
