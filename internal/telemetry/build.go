package telemetry

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"regexp"
	"runtime/debug"
	"sync"
	"time"
)

// stamp is set by a release:
// -ldflags "-X github.com/bankfeed/bankfeed/internal/telemetry.stamp=20261121.3".
var stamp string

var buildShape = regexp.MustCompile(`^[0-9]{8}\.[0-9]+$`)

// BuildID names the build as YYYYMMDD.n, the form that the stream's buildId
// has. Without a release's stamp the day is that of the commit, else that of
// the program file, and n is 0.
var BuildID = sync.OnceValue(func() string {
	if buildShape.MatchString(stamp) {
		return stamp
	}
	return buildDay().UTC().Format("20060102") + ".0"
})

func buildDay() time.Time {
	if t, err := time.Parse(time.RFC3339, setting("vcs.time")); err == nil {
		return t
	}
	if path, err := os.Executable(); err == nil {
		if info, err := os.Stat(path); err == nil {
			return info.ModTime()
		}
	}
	return time.Unix(0, 0)
}

// Revision is the commit that was built, if the build knows it; with + behind
// it if files had changed since.
func Revision() string {
	r := setting("vcs.revision")
	if len(r) > 12 {
		r = r[:12]
	}
	if r != "" && setting("vcs.modified") == "true" {
		r += "+"
	}
	return r
}

func setting(key string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// NewNode names a process: 12 hex digits by chance, the form that the stream's
// containerId has.
func NewNode() string {
	b := make([]byte, 6)
	rand.Read(b)
	return hex.EncodeToString(b)
}
