package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"reflect"
	"sort"
	"strings"
)

func (t *table) facts(w *bufio.Writer) {
	fmt.Fprintln(w, "# Facts of the API types, written by generate/ from upstream's Go declarations; facts.rs tells the format.")
	for _, version := range t.versions {
		fmt.Fprintf(w, "V %s\n", version)
	}
	owner := ""
	for _, goType := range t.types {
		name := modelName(goType)
		dot := strings.LastIndex(name, ".")
		if name[:dot] != owner {
			owner = name[:dot]
			fmt.Fprintf(w, "P %s %s\n", owner, strings.Split(goType.String(), ".")[0])
		}
		t.typeFacts(w, goType, owner)
	}
}

func (t *table) typeFacts(w *bufio.Writer, goType reflect.Type, owner string) {
	name := modelName(goType)
	line := "T " + name[len(owner)+1:]
	if goType.Name() != name[len(owner)+1:] {
		line += "\tgo=" + goType.Name()
	}
	definition := t.definitions[name]
	extensions := definition.Schema.Extensions
	if kind, ok := extensions["x-kubernetes-map-type"]; ok {
		line += fmt.Sprintf("\tmap=%s", kind)
	}
	if unions, ok := extensions["x-kubernetes-unions"]; ok {
		line += "\tunions=" + toJSON(unions)
	}
	fmt.Fprintln(w, line)
	for _, kind := range t.kinds[goType] {
		fmt.Fprintf(w, "K %s\n", kind)
	}
	if kind, ok := t.everywhere[goType]; ok {
		fmt.Fprintf(w, "K * %s\n", kind)
	}
	required := map[string]bool{}
	for _, name := range definition.Schema.Required {
		required[name] = true
	}
	for _, f := range fields(goType, nil, true) {
		t.fieldFacts(w, f, goType, owner, required[f.json])
	}
}

func (t *table) fieldFacts(w *bufio.Writer, f field, goType reflect.Type, owner string, required bool) {
	numbers := strings.Join(f.numbers, ".")
	if numbers == "" {
		numbers = "-"
	}
	flags := ""
	for letter, on := range map[string]bool{
		"p": f.Type.Kind() == reflect.Pointer, "o": f.omitEmpty, "z": f.omitZero, "r": required, "w": wrapped(f),
	} {
		if on {
			flags += letter
		}
	}
	if flags = sorted(flags); flags == "" {
		flags = "-"
	}
	line := fmt.Sprintf("\t%s %s %s %s %s", f.json, f.Name, numbers, shape(f.Type, owner), flags)
	base := f.Type
	if base.Kind() == reflect.Pointer {
		base = base.Elem()
	}
	if base.String() != plain(base) {
		line += "\tgo=" + base.String()
	}
	if len(f.embedded) > 0 {
		line += "\tin=" + strings.Join(f.embedded, ".")
	}
	definition, known := t.definitions[modelName(goType)]
	property, declared := definition.Schema.Properties[f.json]
	if known && !declared && len(definition.Schema.Properties) > 0 {
		fail("%s.%s is not in the OpenAPI definition", goType, f.json)
	}
	extensions := property.Extensions
	if list, ok := extensions["x-kubernetes-list-type"]; ok {
		line += fmt.Sprintf("\tlist=%s", list)
	}
	if keys, ok := extensions["x-kubernetes-list-map-keys"]; ok {
		line += "\tkeys=" + join(keys)
	}
	if kind, ok := extensions["x-kubernetes-map-type"]; ok {
		line += fmt.Sprintf("\tmap=%s", kind)
	}
	if key := f.Tag.Get("patchMergeKey"); key != "" {
		line += "\tmerge=" + key
	}
	if strategy := f.Tag.Get("patchStrategy"); strategy != "" {
		line += "\tpatch=" + strategy
	}
	enum, inner := property.Enum, property
	for len(enum) == 0 && (inner.Items != nil || inner.AdditionalProperties != nil) {
		if inner.Items != nil {
			inner = *inner.Items.Schema
		} else {
			inner = *inner.AdditionalProperties.Schema
		}
		enum = inner.Enum
	}
	if len(enum) > 0 {
		line += "\tenum=" + join(enum)
	}
	for name := range extensions {
		switch strings.TrimPrefix(name, "x-kubernetes-") {
		case "list-type", "list-map-keys", "map-type", "patch-merge-key", "patch-strategy":
		default:
			fail("%s.%s has %s", goType, f.json, name)
		}
	}
	if property.Default != nil {
		line += "\tdefault=" + toJSON(property.Default)
	}
	fmt.Fprintln(w, line)
}

func (t *table) prose(w *bufio.Writer) {
	for _, goType := range t.types {
		t.typeProse(w, modelName(goType), fields(goType, nil, true))
	}
	for _, name := range []string{
		"io.k8s.apimachinery.pkg.api.resource.Quantity", "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
		"io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", "io.k8s.apimachinery.pkg.apis.meta.v1.Duration",
		"io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
		"io.k8s.apimachinery.pkg.runtime.RawExtension", "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
		"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
		"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
		"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
		"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
	} {
		t.typeProse(w, name, nil)
	}
}

func (t *table) typeProse(w *bufio.Writer, name string, fields []field) {
	definition := t.definitions[name]
	fmt.Fprintf(w, "%s\t%s\n", name, escape(definition.Schema.Description))
	for _, f := range fields {
		if prose := definition.Schema.Properties[f.json].Description; prose != "" {
			fmt.Fprintf(w, "\t%s\t%s\n", f.json, escape(prose))
		}
	}
}

func sorted(letters string) string {
	all := strings.Split(letters, "")
	sort.Strings(all)
	return strings.Join(all, "")
}

func join(values any) string {
	var texts []string
	switch values := values.(type) {
	case string:
		texts = []string{values}
	case []any:
		for _, value := range values {
			texts = append(texts, value.(string))
		}
	}
	for _, text := range texts {
		if strings.ContainsAny(text, ",\n\t") {
			fail("%q cannot stand in a list", text)
		}
	}
	return strings.Join(texts, ",")
}

func toJSON(value any) string {
	text, err := json.Marshal(value)
	check(err)
	return string(text)
}
