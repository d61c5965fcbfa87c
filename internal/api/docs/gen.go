//go:build ignore

// Command gen writes docs/events.md to the file that it is given.
package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/bankfeed/bankfeed/internal/api/docs"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: gen FILE")
	}
	var b bytes.Buffer
	if err := docs.WriteEvents(&b); err != nil {
		return err
	}
	return os.WriteFile(os.Args[1], b.Bytes(), 0o644)
}
