package secret_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/secret"
)

func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), mode))
	require.NoError(t, os.Chmod(path, mode)) // the umask may have taken bits away
	return path
}

func TestLoadMasterSources(t *testing.T) {
	want := master(t, key(1), "").ID()
	text := string(key(1))
	urlSafe := strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(string(key(0xfb))), "=")

	for name, o := range map[string]secret.MasterOptions{
		"setting":             {Key: bankfeed.Secret(text)},
		"setting with spaces": {Key: bankfeed.Secret(" " + text + "\n")},
		"file":                {KeyFile: write(t, "k", text+"\n", 0o600)},
		"read-only file":      {KeyFile: write(t, "k", text, 0o400)},
		"file on SQLite":      {KeyFile: write(t, "k", text, 0o600), Generate: true, DataDir: t.TempDir()},
		"with a previous one": {Key: key(1), PreviousKeyFile: write(t, "k", string(key(2)), 0o600)},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := secret.LoadMaster(o)
			require.NoError(t, err)
			require.Equal(t, want, m.ID())
		})
	}
	require.Equal(t, master(t, key(0xfb), "").ID(), master(t, bankfeed.Secret(urlSafe), "").ID())
	require.NotEqual(t, want, master(t, key(2), "").ID())
}

func TestLoadMasterFaults(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no file modes")
	}
	const leak = "c2VjcmV0c2VjcmV0c2VjcmV0" // valid base64, too short
	for name, c := range map[string]struct {
		o    secret.MasterOptions
		want []string
	}{
		"nothing set": {secret.MasterOptions{DataDir: t.TempDir()},
			[]string{"BANKFEED_MASTER_KEY", "BANKFEED_MASTER_KEY_FILE", "required"}},
		"both set":   {secret.MasterOptions{Key: key(1), KeyFile: "x"}, []string{"not both"}},
		"too short":  {secret.MasterOptions{Key: leak}, []string{"BANKFEED_MASTER_KEY:", "18 bytes"}},
		"not base64": {secret.MasterOptions{Key: leak + "!"}, []string{"BANKFEED_MASTER_KEY:", "not base64"}},
		"short file": {secret.MasterOptions{KeyFile: write(t, "k", leak, 0o600)},
			[]string{"BANKFEED_MASTER_KEY_FILE:", "18 bytes"}},
		"empty file": {secret.MasterOptions{KeyFile: write(t, "k", "", 0o600)}, []string{"BANKFEED_MASTER_KEY_FILE:"}},
		"group may read": {secret.MasterOptions{KeyFile: write(t, "k", string(key(1)), 0o640)},
			[]string{"BANKFEED_MASTER_KEY_FILE:", "0640"}},
		"world may read": {secret.MasterOptions{KeyFile: write(t, "k", string(key(1)), 0o604)},
			[]string{"BANKFEED_MASTER_KEY_FILE:", "0604"}},
		"key where its path belongs": {secret.MasterOptions{KeyFile: leak},
			[]string{"BANKFEED_MASTER_KEY_FILE:", "no such file"}},
		"missing file elsewhere is not made": {
			secret.MasterOptions{KeyFile: filepath.Join(t.TempDir(), leak), Generate: true, DataDir: t.TempDir()},
			[]string{"BANKFEED_MASTER_KEY_FILE:", "no such file"}},
		"both at once": {secret.MasterOptions{Key: leak, PreviousKey: leak},
			[]string{"BANKFEED_MASTER_KEY:", "BANKFEED_MASTER_KEY_PREVIOUS:"}},
		"previous twice": {secret.MasterOptions{Key: key(1), PreviousKey: key(2), PreviousKeyFile: "x"},
			[]string{"BANKFEED_MASTER_KEY_PREVIOUS_FILE, not both"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := secret.LoadMaster(c.o)
			require.Error(t, err)
			for _, w := range c.want {
				require.ErrorContains(t, err, w)
			}
			require.NotContains(t, err.Error(), leak)
			require.NotContains(t, err.Error(), string(key(1)))
		})
	}
}

func TestGeneratedMaster(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data") // not there yet
	o := secret.MasterOptions{Generate: true, DataDir: dir}

	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			if m, err := secret.LoadMaster(o); err == nil {
				ids[i] = m.ID()
			}
		})
	}
	wg.Wait()
	again, err := secret.LoadMaster(o)
	require.NoError(t, err)
	for _, id := range ids {
		require.Equal(t, again.ID(), id, "processes that start together agree on one key")
	}

	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file stays")
	require.Equal(t, "master.key", entries[0].Name())
	if info, err := entries[0].Info(); runtime.GOOS != "windows" {
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode())
	}

	named, err := secret.LoadMaster(secret.MasterOptions{
		KeyFile: filepath.Join(dir, "own.key"), Generate: true, DataDir: dir})
	require.NoError(t, err, "a named file in the data directory is made, too")
	require.NotEqual(t, again.ID(), named.ID())
}

func TestMasterPrintsNoKey(t *testing.T) {
	m := master(t, key('k'), "")
	for _, verb := range []string{"%v", "%+v", "%s"} {
		require.Equal(t, "master key "+m.ID(), fmt.Sprintf(verb, m))
	}
}
