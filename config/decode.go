package config

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// decoder decodes one file into a struct. It decodes the syntax tree itself, because a
// decoder that stops at the first error, or that does not keep positions, could not report
// all problems with their positions.
type decoder struct {
	*report
	env func(string) (string, bool)
	// secrets are the keys whose values are secrets that are written in the file.
	secrets []string
}

// decode decodes the content of the file over the defaults in target.
func (d *decoder) decode(content []byte, target any) {
	file, err := parser.ParseBytes(content, 0)
	if err != nil {
		d.addSyntaxError(err, content)
		return
	}
	bodies := slices.DeleteFunc(file.Docs, func(doc *ast.DocumentNode) bool { return doc.Body == nil })
	switch len(bodies) {
	case 0:
	case 1:
		d.decodeValue(bodies[0].Body, reflect.ValueOf(target).Elem(), "")
	default:
		d.addAt(bodies[1].Body.GetToken().Position, "", "a second YAML document begins here; remove the line ---")
	}
}

// addSyntaxError reports an error of the parser.
func (d *decoder) addSyntaxError(err error, content []byte) {
	var parse yaml.Error
	if !errors.As(err, &parse) || parse.GetToken() == nil {
		d.addAt(nil, "", "is not valid YAML: %v", err)
		return
	}
	pos, message := parse.GetToken().Position, "is not valid YAML: "+parse.GetMessage()
	if duplicate := (*yaml.DuplicateKeyError)(nil); errors.As(err, &duplicate) {
		message = parse.GetMessage() + "; remove one of the two"
	}
	lines := strings.Split(string(content), "\n")
	if pos.Line >= 1 && pos.Line <= len(lines) && strings.Contains(lines[pos.Line-1], "${") {
		message += `; put a value with ${…} in quotes`
	}
	d.addAt(pos, "", "%s", message)
}

// decodeValue decodes one node of the syntax tree.
func (d *decoder) decodeValue(n ast.Node, v reflect.Value, key string) {
	if tag, ok := n.(*ast.TagNode); ok {
		n = tag.Value
	}
	if pos := n.GetToken().Position; d.positions[key].Line == 0 || isScalar(n) {
		d.positions[key] = *pos
	}
	if short, ok := v.Addr().Interface().(interface{ shorthand() any }); ok && n.Type() != ast.NullType && !isMapping(n) {
		v = reflect.ValueOf(short.shorthand()).Elem()
	}
	switch {
	case n.Type() == ast.NullType:
		// A key without a value keeps its default.
	case n.Type() == ast.AnchorType, n.Type() == ast.AliasType:
		d.add(key, "anchors and aliases are not supported; repeat the value")
	case isTextField(v):
		d.decodeText(n, v, key)
	case v.Kind() == reflect.Struct:
		d.decodeSection(n, v, key)
	case v.Kind() == reflect.Map:
		d.decodeMap(n, v, key)
	case v.Kind() == reflect.Slice:
		d.decodeList(n, v, key)
	}
}

// decodeSection decodes a mapping into a struct.
func (d *decoder) decodeSection(n ast.Node, v reflect.Value, key string) {
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		fields[v.Type().Field(i).Tag.Get("yaml")] = v.Field(i)
	}
	d.forEachEntry(n, key, func(name, path string, value ast.Node) {
		if field, ok := fields[name]; ok {
			d.decodeValue(value, field, path)
			return
		}
		d.addUnknownKey(path, value, slices.Sorted(maps.Keys(fields)))
	})
}

// addUnknownKey reports an unknown or former key.
func (d *decoder) addUnknownKey(path string, value ast.Node, known []string) {
	if advice, ok := formerKey(path); ok {
		d.add(path, "%s", advice)
		return
	}
	if hasFormerKeys(path) && value.Type() == ast.MappingType {
		d.forEachEntry(value, path, func(_, path string, value ast.Node) { d.addUnknownKey(path, value, known) })
		return
	}
	d.add(path, "unknown key; known here: %s", strings.Join(known, ", "))
}

// decodeMap decodes a mapping into a map.
func (d *decoder) decodeMap(n ast.Node, v reflect.Value, key string) {
	v.Set(reflect.MakeMap(v.Type()))
	d.forEachEntry(n, key, func(name, path string, value ast.Node) {
		elem := reflect.New(v.Type().Elem()).Elem()
		d.decodeValue(value, elem, path)
		v.SetMapIndex(reflect.ValueOf(name), elem)
	})
}

// forEachEntry calls f for each entry of a mapping.
func (d *decoder) forEachEntry(n ast.Node, key string, f func(name, path string, value ast.Node)) {
	mapping, ok := n.(ast.MapNode)
	if !ok {
		d.add(key, "a section of keys and values belongs here, not %s", describeNode(n))
		return
	}
	for it := mapping.MapRange(); it.Next(); {
		name := it.Key().GetToken().Value
		path := name
		if key != "" {
			path = key + "." + name
		}
		d.positions[path] = *it.Key().GetToken().Position
		f(name, path, it.Value())
	}
}

// decodeList decodes a sequence.
func (d *decoder) decodeList(n ast.Node, v reflect.Value, key string) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.add(key, "a list belongs here, not %s", describeNode(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, item := range seq.Values {
		path := fmt.Sprintf("%s[%d]", key, i)
		d.decodeValue(item, v.Index(i), path)
		if item.Type() == ast.NullType {
			d.add(path, "this entry is empty; fill it in or remove it")
		}
	}
}

// decodeText decodes a scalar. It parses the text of the file as the type of the key, whatever
// type YAML gives it.
func (d *decoder) decodeText(n ast.Node, v reflect.Value, key string) {
	if !isScalar(n) {
		d.add(key, "a single value belongs here, not %s", describeNode(n))
		return
	}
	raw := n.GetToken().Value
	if literal, ok := n.(*ast.LiteralNode); ok {
		raw = literal.Value.Value
	}
	s, err := expand(raw, d.env)
	if err != nil {
		d.add(key, "%v", err)
		return
	}
	// A default, like the password guest, is no secret.
	if isDefault := v.Kind() == reflect.String && v.String() == s; !isDefault && !strings.Contains(raw, "${") && isSecret(v, s) {
		d.secrets = append(d.secrets, key)
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(s)); err != nil {
			d.add(key, "%v", err)
		}
		return
	}
	if v.Kind() == reflect.String {
		v.SetString(s)
		return
	}
	i, err := strconv.Atoi(s)
	if err != nil {
		d.add(key, "%q is not a whole number", s)
		return
	}
	v.SetInt(int64(i))
}

// isSecret reports whether a text is a secret in a field of this type.
func isSecret(v reflect.Value, text string) bool {
	switch v.Interface().(type) {
	case Secret:
		return text != ""
	case URI:
		u, err := url.Parse(text)
		if err != nil {
			return false
		}
		password, _ := u.User.Password()
		return password != ""
	}
	return false
}

// isTextField reports whether a field is written as a single scalar.
func isTextField(v reflect.Value) bool {
	_, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	return ok || v.Kind() == reflect.String || v.Kind() == reflect.Int
}

func isMapping(n ast.Node) bool {
	_, ok := n.(ast.MapNode)
	return ok
}

func isScalar(n ast.Node) bool {
	_, ok := n.(ast.ScalarNode)
	return ok && n.Type() != ast.AliasType && n.Type() != ast.AnchorType
}

func describeNode(n ast.Node) string {
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "a section of keys and values"
	case ast.SequenceType:
		return "a list"
	default:
		return "a single value"
	}
}
