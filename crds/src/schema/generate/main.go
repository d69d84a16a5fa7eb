// Command facts writes what Keelson knows of the Kubernetes API types: ../facts.txt,
// ../internal.txt and ../prose.txt.gz.
//
// The sources are upstream's Go modules, pinned in go.mod: the struct declarations, by reflection (order, JSON and
// protobuf tags, pointers, patch tags), and the OpenAPI definitions that upstream generates from the same
// declarations' comments (required, default, enum, list and map types, prose). Run it as
//
//	cd crds/src/schema/generate && go run .
//
// A newer Kubernetes is a newer version in go.mod. schema/facts.rs tells the format; its golden tests compare the
// table with what a stock server serves.
package main

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	out := ".."
	if len(os.Args) > 1 {
		out = os.Args[1]
	}
	table := collect()
	write(filepath.Join(out, "facts.txt"), false, func(w *bufio.Writer) { table.facts(w) })
	write(filepath.Join(out, "internal.txt"), false, func(w *bufio.Writer) { table.internal(w) })
	write(filepath.Join(out, "prose.txt.gz"), true, func(w *bufio.Writer) { table.prose(w) })
}

func write(path string, compress bool, body func(*bufio.Writer)) {
	file, err := os.Create(path)
	check(err)
	defer file.Close()
	if !compress {
		w := bufio.NewWriter(file)
		body(w)
		check(w.Flush())
		return
	}
	z, err := gzip.NewWriterLevel(file, gzip.BestCompression)
	check(err)
	w := bufio.NewWriter(z)
	body(w)
	check(w.Flush())
	check(z.Close())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// escape keeps prose on one line.
func escape(text string) string {
	return strings.NewReplacer("\\", "\\\\", "\n", "\\n", "\t", "\\t").Replace(text)
}

func fail(format string, args ...any) {
	log.Fatal(fmt.Sprintf(format, args...))
}
