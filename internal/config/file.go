package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// File is a YAML file with settings, banks and streams. Its faults are reported by
// Settings.Check, together with all others.
type File struct {
	Banks   []Bank
	Streams []Stream
	values  map[string]string
	faults  faults
}

// ReadFile reads a configuration file. What is wrong in it becomes a fault.
func ReadFile(path string) *File {
	f := &File{values: map[string]string{}}
	data, err := os.ReadFile(path)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		f.faults.add(named("config"), "cannot read the file: %v", err)
		return f
	}
	f.read(data)
	return f
}

func (f *File) read(data []byte) {
	doc, err := parser.ParseBytes(data, 0)
	if err != nil {
		f.add(err)
		return
	}
	if len(doc.Docs) != 1 {
		if len(doc.Docs) > 1 {
			f.faults.add(inFile(""), "holds more than one document")
		}
		return
	}
	var members []*ast.MappingValueNode
	switch body := doc.Docs[0].Body.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
		return
	case *ast.MappingNode:
		members = body.Values
	case *ast.MappingValueNode:
		members = []*ast.MappingValueNode{body}
	default:
		f.faults.add(inFile(""), "must hold settings, as in `listen: 127.0.0.1:8440`")
		return
	}
	known := Keys()
	seen := map[string]bool{}
	for _, m := range members {
		key := m.Key.String()
		if seen[key] {
			f.faults.add(inFile(key), "is there twice")
		}
		seen[key] = true
		switch {
		case key == "banks":
			readList(f, key, m.Value, &f.Banks, (*Bank).check)
		case key == "streams":
			readList(f, key, m.Value, &f.Streams, (*Stream).check)
		case slices.Contains(known, key):
			f.readSetting(key, m.Value)
		default:
			f.faults.add(inFile(key), "line %d: there is no such setting", m.GetToken().Position.Line)
		}
	}
}

// readSetting keeps a setting as text; a list becomes words.
func (f *File) readSetting(key string, n ast.Node) {
	var v any
	if err := yaml.NodeToValue(n, &v); err != nil {
		f.add(err)
		return
	}
	switch v := v.(type) {
	case nil:
	case []any:
		list := make([]string, len(v))
		for i := range v {
			list[i] = fmt.Sprint(v[i])
		}
		f.values[key] = strings.Join(list, ",")
	case map[string]any:
		f.faults.add(inFile(key), "must be a single value or a list")
	default:
		f.values[key] = fmt.Sprint(v)
	}
}

// readList reads a list of things and keeps those without a fault.
func readList[T any](f *File, key string, n ast.Node, into *[]T, check func(*T) []error) {
	seq, ok := n.(*ast.SequenceNode)
	if _, null := n.(*ast.NullNode); !ok {
		if !null {
			f.faults.add(inFile(key), "must be a list")
		}
		return
	}
	for i, item := range seq.Values {
		var v T
		if err := yaml.NodeToValue(item, &v, yaml.Strict()); err != nil {
			f.add(fmt.Errorf("%s[%d]: %s", key, i, oneLine(err)))
			continue
		}
		if bad := check(&v); len(bad) > 0 {
			for _, err := range bad {
				f.faults.add(inFile(fmt.Sprintf("%s[%d]", key, i)), "%v", err)
			}
			continue
		}
		*into = append(*into, v)
	}
}

func (f *File) add(err error) { f.faults.add(inFile(""), "%s", oneLine(err)) }

// oneLine is a YAML error without the excerpt of the file, which may show a
// secret.
func oneLine(err error) string {
	return strings.Join(strings.Fields(yaml.FormatError(err, false, false)), " ")
}

func inFile(key string) string {
	if key == "" {
		return "configuration file"
	}
	return "configuration file, " + key
}

// Setting is a row of the reference.
type Setting struct{ Flag, Env, Key, Default, Help string }

// Reference lists all settings.
func Reference() []Setting { return fields(reflect.TypeFor[Settings]()) }

func fields(t reflect.Type) []Setting {
	var list []Setting
	for f := range t.Fields() {
		if f.Anonymous {
			list = append(list, fields(f.Type)...)
			continue
		}
		env := f.Tag.Get("env")
		flag := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(env, "BANKFEED_")), "_", "-")
		list = append(list, Setting{Flag: flag, Env: env, Key: strings.ReplaceAll(flag, "-", "_"),
			Default: f.Tag.Get("default"), Help: f.Tag.Get("help")})
	}
	return list
}

// Keys lists what the file may hold beside banks and streams.
func Keys() []string {
	var keys []string
	for _, s := range Reference() {
		if s.Key != "config" {
			keys = append(keys, s.Key)
		}
	}
	return keys
}

// Resolver puts the file behind flags and environment (kong asks it for every
// flag that is not on the command line). An empty variable counts as not set,
// as it comes from compose files.
type Resolver struct {
	File *File // nil until a flag was resolved, or if there is none
	read bool
}

// Validate implements kong.Resolver.
func (*Resolver) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver.
func (r *Resolver) Resolve(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if !r.read {
		r.read = true
		for _, f := range ctx.Flags() {
			if path, ok := ctx.FlagValue(f).(string); ok && f.Name == "config" && path != "" {
				r.File = ReadFile(path)
			}
		}
	}
	var emptied bool
	for _, name := range flag.Tag.Envs {
		v, set := os.LookupEnv(name)
		if v != "" {
			return nil, nil
		}
		emptied = emptied || set
	}
	if r.File != nil {
		if v, ok := r.File.values[strings.ReplaceAll(flag.Name, "-", "_")]; ok && len(flag.Tag.Envs) > 0 {
			return v, nil
		}
	}
	if emptied && flag.HasDefault {
		return flag.Default, nil
	}
	return nil, nil
}
