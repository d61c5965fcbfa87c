package finapi_test

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The vendor gives no hand-written SDK but recommends a generated client. This
// generates one from the document, with a generator that nobody here wrote,
// builds it and lets it do what a client does: testdata/client/main.go.
func TestGeneratedClient(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a generator and a client")
	}
	c := newClient(t)
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/client")))
	require.NoError(t, os.Rename(filepath.Join(dir, "main.go.txt"), filepath.Join(dir, "main.go")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "openapi.json"), c.spec, 0o600))
	tools, err := filepath.Abs("../../../tools/go.mod")
	require.NoError(t, err)
	run(t, ".", "tool", "-modfile="+tools, "oapi-codegen", "-generate", "types,client", "-package", "main", "-o", filepath.Join(dir, "client.go"), filepath.Join(dir, "openapi.json"))
	program := filepath.Join(dir, "program")
	run(t, dir, "build", "-o", program, ".")

	server := httptest.NewServer(c.api)
	t.Cleanup(server.Close)
	out, err := exec.CommandContext(t.Context(), program, server.URL).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, "user Customer-1\nsource "+sourceID(123456)+" IN_PROGRESS CHECKING DE13700800000061110500\nstatus IN_PROGRESS SYNC_IN_PROGRESS\nunknown UNKNOWN_ENTITY\nprocess bfa_user\n", string(out))
	require.Equal(t, "38793e87-499d-4860-b947-2c2c8ab10322", c.hub.orders[0].Handle)
}

func run(t *testing.T, dir string, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", args...)
	command.Dir = dir
	command.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	out, err := command.CombinedOutput()
	require.NoError(t, err, "go %v\n%s", args, out)
}
