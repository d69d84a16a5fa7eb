package main

import (
	"bufio"
	"fmt"
	"reflect"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// The internal types are what upstream validates, and so what its field errors print: Go names, every field.

// embedded is printed alone, though only the spec that it is a part of refers to it.
const embedded = "PersistentVolumeSource"

// internals are the types of the internal versions and all that they are made of, by `package.Name`.
func internals(schemes []*runtime.Scheme) map[string]reflect.Type {
	all := map[string]reflect.Type{}
	for _, scheme := range schemes {
		for gvk, goType := range scheme.AllKnownTypes() {
			if gvk.Version == runtime.APIVersionInternal {
				visitInternal(all, goType)
			}
		}
	}
	return all
}

func isInternal(goType reflect.Type) bool {
	path := goType.PkgPath()
	return strings.Contains(path, "/pkg/apis/") && !strings.HasPrefix(path, "k8s.io/apimachinery/") && !strings.Contains(path[strings.LastIndex(path, "/"):], "/v")
}

func visitInternal(all map[string]reflect.Type, goType reflect.Type) {
	for goType.Kind() == reflect.Pointer || goType.Kind() == reflect.Slice || goType.Kind() == reflect.Map {
		goType = goType.Elem()
	}
	if goType.Kind() != reflect.Struct || special(goType) != "" || !isInternal(goType) || all[goType.String()] != nil {
		return
	}
	all[goType.String()] = goType
	if source, ok := goType.FieldByName(embedded); ok && source.Anonymous {
		visitInternal(all, source.Type)
	}
	for _, f := range fields(goType, nil, true) {
		visitInternal(all, f.Type)
	}
}

func (t *table) internal(w *bufio.Writer) {
	fmt.Fprintln(w, "# Upstream's internal types as its field errors print them, written by generate/; facts.rs tells the format.")
	var names []string
	for name := range t.internals {
		names = append(names, name)
	}
	sort.Strings(names)
	owner := ""
	for _, name := range names {
		goType := t.internals[name]
		if meta, ok := goType.FieldByName("ObjectMeta"); ok && meta.Anonymous || strings.HasSuffix(name, "List") {
			continue // whole objects are not printed
		}
		if pkg := strings.Split(name, ".")[0]; pkg != owner {
			owner = pkg
			fmt.Fprintf(w, "P %s %s\n", owner, owner)
		}
		fmt.Fprintf(w, "T %s\n", goType.Name())
		published := t.published(owner, goType.Name())
		if goType.Name() == embedded {
			published = t.published(owner, "PersistentVolumeSpec")
		}
		for _, f := range fields(goType, nil, true) {
			flags := ""
			if f.Type.Kind() == reflect.Pointer {
				flags += "p"
			}
			if f.omitEmpty {
				flags += "o"
			}
			if flags == "" {
				flags = "-"
			}
			json, ok := published[strings.ToLower(f.Name)]
			if !ok {
				json = "-"
			}
			fmt.Fprintf(w, "\t%s %s - %s %s\n", json, f.json, shape(f.Type, owner), flags)
		}
	}
}

// published gives the JSON names, by lower-case Go name, of the served types that an internal type stands for.
func (t *table) published(owner, name string) map[string]string {
	names := map[string]string{}
	for _, goType := range t.types {
		model := modelName(goType)
		parts := strings.Split(model, ".")
		if goType.Name() != name || len(parts) < 3 || parts[len(parts)-3] != owner {
			continue
		}
		for _, f := range fields(goType, nil, true) {
			lower := strings.ToLower(f.Name)
			if _, ok := names[lower]; !ok {
				names[lower] = f.json
			}
		}
	}
	return names
}
