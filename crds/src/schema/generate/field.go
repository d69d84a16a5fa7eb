package main

import (
	"reflect"
	"strconv"
	"strings"

	extensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// field is one JSON member of a type.
type field struct {
	reflect.StructField
	json      string
	omitEmpty bool
	omitZero  bool
	numbers   []string // the path of protobuf numbers, none where protobuf leaves the field out
	embedded  []string // the embedded structs that it is in
}

// fields lists a struct's members in the order in which Go writes them, embedded structs' members in their place.
func fields(goType reflect.Type, path []string, inProtobuf bool) (all []field) {
	for i := range goType.NumField() {
		f := goType.Field(i)
		name, options, tagged := jsonTag(f)
		number := protobufNumber(f)
		if name == "-" || (!f.IsExported() && !f.Anonymous) {
			continue
		}
		here, present := append(append([]string{}, path...), number), inProtobuf && number != ""
		if f.Anonymous && name == "" {
			embedded := f.Type
			if embedded.Kind() == reflect.Pointer {
				fail("%s.%s is an embedded pointer", goType, f.Name)
			}
			for _, member := range fields(embedded, here, present) {
				member.embedded = append([]string{f.Name}, member.embedded...)
				all = append(all, member)
			}
			continue
		}
		if !tagged {
			name = f.Name
		}
		if options["string"] {
			fail("%s.%s is a quoted scalar", goType, f.Name)
		}
		member := field{StructField: f, json: name, omitEmpty: options["omitempty"], omitZero: options["omitzero"]}
		if present {
			member.numbers = here
		}
		all = append(all, member)
	}
	return all
}

func jsonTag(f reflect.StructField) (name string, options map[string]bool, tagged bool) {
	tag, tagged := f.Tag.Lookup("json")
	parts := strings.Split(tag, ",")
	options = map[string]bool{}
	for _, option := range parts[1:] {
		options[option] = true
	}
	return parts[0], options, tagged && parts[0] != ""
}

func protobufNumber(f reflect.StructField) string {
	parts := strings.Split(f.Tag.Get("protobuf"), ",")
	if len(parts) < 2 || parts[0] == "-" {
		return ""
	}
	if _, err := strconv.Atoi(parts[1]); err != nil {
		fail("%s has the protobuf tag %q", f.Name, f.Tag)
	}
	return parts[1]
}

// special is the shape of the structs that write their own JSON.
func special(goType reflect.Type) string {
	switch goType {
	case reflect.TypeFor[metav1.Time]():
		return "t"
	case reflect.TypeFor[metav1.MicroTime]():
		return "m"
	case reflect.TypeFor[metav1.Duration]():
		return "u"
	case reflect.TypeFor[resource.Quantity]():
		return "q"
	case reflect.TypeFor[intstr.IntOrString]():
		return "o"
	case reflect.TypeFor[metav1.FieldsV1]():
		return "f"
	case reflect.TypeFor[runtime.RawExtension]():
		return "r"
	case reflect.TypeFor[extensions.JSON]():
		return "a"
	case reflect.TypeFor[extensions.JSONSchemaPropsOrBool]():
		return "?b"
	case reflect.TypeFor[extensions.JSONSchemaPropsOrArray]():
		return "?l"
	case reflect.TypeFor[extensions.JSONSchemaPropsOrStringArray]():
		return "?t"
	}
	return ""
}

// shape tells what a field's value is made of; owner is the package that names are relative to.
func shape(goType reflect.Type, owner string) string {
	switch goType.Kind() {
	case reflect.Pointer:
		return shape(goType.Elem(), owner)
	case reflect.Slice:
		if goType.Elem().Kind() == reflect.Uint8 {
			return "y"
		}
		return "[" + shape(goType.Elem(), owner)
	case reflect.Map:
		if goType.Key().Kind() != reflect.String {
			fail("%s has keys that are not text", goType)
		}
		return "{" + shape(goType.Elem(), owner)
	case reflect.Struct:
		if code := special(goType); code != "" {
			return code
		}
		if isInternal(goType) {
			return "@" + strings.TrimPrefix(goType.String(), owner+".")
		}
		return "@" + strings.TrimPrefix(modelName(goType), owner+".")
	case reflect.Interface:
		return "a"
	case reflect.Bool:
		return "b"
	case reflect.Int32:
		return "i"
	case reflect.Int64, reflect.Int:
		return "l"
	case reflect.Float64:
		return "d"
	case reflect.String:
		return "s"
	}
	fail("%s has no shape", goType)
	return ""
}

// wrapped tells whether protobuf has a message of its own around a list: upstream's named slice types.
func wrapped(f field) bool {
	goType := f.Type
	if goType.Kind() == reflect.Map || (goType.Kind() == reflect.Slice && goType.Name() == "") {
		goType = goType.Elem()
	}
	return goType.Kind() == reflect.Slice && goType.Name() != "" && goType.Elem().Kind() == reflect.String
}

// plain is the Go type that a shape stands for where no name of its own is given.
func plain(goType reflect.Type) string {
	switch goType.Kind() {
	case reflect.Pointer:
		return plain(goType.Elem())
	case reflect.Slice:
		return "[]" + plainElement(goType.Elem())
	case reflect.Map:
		return "map[string]" + plainElement(goType.Elem())
	case reflect.Struct:
		return goType.String()
	case reflect.Interface:
		return "interface {}"
	}
	return goType.Kind().String()
}

func plainElement(goType reflect.Type) string {
	if goType.Kind() == reflect.Pointer {
		return "*" + plain(goType)
	}
	return plain(goType)
}
