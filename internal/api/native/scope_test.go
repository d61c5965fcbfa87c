package native

import (
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

// A token of a foreign scope is refused by every operation but those that any
// token may call; its body and parameters are not even looked at.
func TestScopes(t *testing.T) {
	h := newHarness(t)
	doc, err := openapi3.NewLoader().LoadFromData(h.api.Spec())
	require.NoError(t, err)
	reference, err := os.ReadFile("../../../docs/api.md")
	require.NoError(t, err)
	anyToken := []string{"listUsers", "getUser", "listProviders", "getProvider", "listConnections", "getConnection", "listSessions", "getSession"}
	var found []string
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			id := op.OperationID
			found = append(found, id)
			target := strings.ReplaceAll(path, "{id}", "101")
			h.tokens["foreign_scope"] = bankfeed.Caller{Client: live, User: 11, Scopes: []string{"reports_read"}}
			if slices.Contains(anyToken, id) {
				require.NotEqual(t, http.StatusForbidden, h.do(request(method, target, "foreign_scope", "")).Code, id)
				continue
			}
			w := h.do(request(method, target, "foreign_scope", ""))
			require.Equal(t, http.StatusForbidden, w.Code, id)
			require.Equal(t, problemType, w.Header().Get("Content-Type"))
			require.Contains(t, w.Body.String(), `"code":"forbidden"`)
			require.Equal(t, `Bearer error="insufficient_scope"`, w.Header().Get("WWW-Authenticate"))
			for _, scope := range scopes[id] {
				require.True(t, allowed(id, []string{"reports_read", scope}), "%s: one of them suffices", id)
				require.Contains(t, op.Description, scope)
				require.Contains(t, string(reference), "`"+scope+"`")
			}
		}
	}
	require.Empty(t, h.erased)
	require.Empty(t, h.deleted)
	slices.Sort(found)
	require.Equal(t, slices.Sorted(maps.Keys(scopes)), found, "each operation has its row")
	require.False(t, allowed("unknown", []string{"accounts_read"}))

	h.tokens["accounts"] = bankfeed.Caller{Client: live, User: 11, Scopes: []string{"accounts_read"}}
	require.Equal(t, 200, h.do(request("GET", "/v1/accounts", "accounts", "")).Code)
	require.Equal(t, 403, h.do(request("POST", "/v1/connections", "accounts", linkBody)).Code)
	require.Equal(t, 403, h.do(request("DELETE", "/v1/users/11", "accounts", "")).Code)
}
