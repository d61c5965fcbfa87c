package asyncapi

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/wire/banqup"
)

// Nothing is said of a member that no message has.
func TestMembersAreThere(t *testing.T) {
	schemas := map[string]*schema{"envelope": form{numbers: true}.envelope(banqup.Call, "#")}
	for _, k := range banqup.Kinds {
		schemas[string(k)] = form{numbers: true}.message(k)
	}
	for key := range members {
		kind, path, _ := strings.Cut(key, " ")
		found := schemas[kind].has(path)
		for _, s := range schemas {
			found = found || kind == "*" && s.has(path)
		}
		require.True(t, found, key)
	}
}

func (s *schema) has(path string) bool {
	for step := range strings.SplitSeq(path, ".") {
		switch {
		case s == nil:
			return false
		case step == "*" && s.Items != nil:
			s = s.Items
		case step == "*":
			s = s.AdditionalProperties
		default:
			s = s.Properties[step]
		}
	}
	return s != nil
}
