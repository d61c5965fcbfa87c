package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCommandLine plays the transcripts of testdata: "$ " begins a command as
// it is typed, what follows is what it shows, errors included, and "[exit n]"
// its exit code if that is not 0. In the output … stands for anything on a
// line, and a line of it for any lines. A name in braces keeps what it stands
// for: {id} later means the same text.
func TestCommandLine(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			for _, name := range os.Environ() {
				if key, _, _ := strings.Cut(name, "="); strings.HasPrefix(key, "BANKFEED_") {
					t.Setenv(key, "") // counts as not set
				}
			}
			t.Chdir(t.TempDir())
			text, err := os.ReadFile(file)
			if os.IsNotExist(err) {
				text, err = os.ReadFile(filepath.Join(original, file))
			}
			require.NoError(t, err)
			play(t, string(text))
		})
	}
}

var original = func() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return dir
}()

func play(t *testing.T, transcript string) {
	kept := map[string]string{}
	for i, part := range strings.Split("\n"+transcript, "\n$ ") {
		if i == 0 {
			continue // a remark
		}
		command, want, _ := strings.Cut(part, "\n")
		for name, value := range kept {
			command = strings.ReplaceAll(command, "{"+name+"}", value)
		}
		if content, ok := strings.CutPrefix(command, "cat > "); ok {
			require.NoError(t, os.WriteFile(content, []byte(want), 0o600))
			continue
		}
		args := strings.Fields(command)
		for len(args) > 0 && strings.Contains(args[0], "=") {
			key, value, _ := strings.Cut(args[0], "=")
			t.Setenv(key, value)
			args = args[1:]
		}
		require.Equal(t, "bankfeed", args[0], command)
		var out bytes.Buffer
		code := run(context.Background(), args[1:], &out, &out)
		if code != 0 {
			out.WriteString("[exit " + strconv.Itoa(code) + "]\n")
		}
		match := pattern(want, kept).FindStringSubmatch("\n" + strings.TrimSpace(out.String()))
		require.NotNilf(t, match, "$ %s\nshows:\n%s\nbut should:\n%s", command, out.String(), want)
		for n, name := range pattern(want, kept).SubexpNames() {
			if name != "" {
				kept[name] = match[n]
			}
		}
	}
}

var hole = regexp.MustCompile(`\\\{([a-z_]+)\\\}`)

func pattern(want string, kept map[string]string) *regexp.Regexp {
	s := regexp.QuoteMeta("\n" + strings.TrimSpace(want))
	s = hole.ReplaceAllStringFunc(s, func(m string) string {
		name := hole.FindStringSubmatch(m)[1]
		if v, ok := kept[name]; ok {
			return regexp.QuoteMeta(v)
		}
		return "(?P<" + name + ">\\S+)"
	})
	s = strings.ReplaceAll(s, "\n…", "(?s:.*)")
	return regexp.MustCompile("^" + strings.ReplaceAll(s, "…", ".*") + "$")
}
