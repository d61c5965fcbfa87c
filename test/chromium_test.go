//go:build unix

package test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// chromium is a browser window of its own, without anybody's cookies.
type chromium struct {
	t   *testing.T
	ctx context.Context
}

// newChromium opens one, in a language. Its size is that of a phone.
func newChromium(t *testing.T, language string) *chromium {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("NOT RUN: chromium is not installed")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(390, 800),
		chromedp.Flag("lang", language), chromedp.Flag("accept-lang", language))
	allocator, end := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(end)
	ctx, stop := chromedp.NewContext(allocator)
	t.Cleanup(stop)
	b := &chromium{t: t, ctx: ctx}
	require.NoError(t, chromedp.Do(ctx))
	return b
}

// window opens another window of the same browser.
func (b *chromium) window() *chromium {
	ctx, stop := chromedp.NewContext(b.ctx)
	b.t.Cleanup(stop)
	require.NoError(b.t, chromedp.Do(ctx)) // without a deadline, which would be the window's
	return &chromium{t: b.t, ctx: ctx}
}

func navigate(to string) chromedp.Action[chromedp.Void] { return chromedp.Navigate(to) }

// withoutScripts makes it one that runs none.
func (b *chromium) withoutScripts() {
	b.t.Helper()
	yes := emulation.SetScriptExecutionDisabledParams{Value: true}
	_, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, yes)
	require.NoError(b.t, err)
}

// do takes steps, and shows the page if they cannot be taken.
func (b *chromium) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("%v\nat %s:\n%s", err, b.at(), b.text())
	}
}

// press clicks and waits for the page after it.
func (b *chromium) press(selector string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector))); err != nil {
		b.t.Fatalf("pressing %s: %v\nat %s:\n%s", selector, err, b.at(), b.text())
	}
}

// choose clicks, and stays on the page.
func (b *chromium) choose(selector string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS(selector)))
}

// fill types into an input.
func (b *chromium) fill(selector, value string) {
	b.t.Helper()
	b.do(chromedp.SendKeys(chromedp.CSS(selector), value))
}

// at is the address without what comes after the path.
func (b *chromium) at() string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	to, err := chromedp.Run(ctx, chromedp.Location())
	require.NoError(b.t, err)
	to, _, _ = strings.Cut(to, "?")
	return to
}

// text is what a person reads.
func (b *chromium) text() string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	s, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body")))
	require.NoError(b.t, err)
	return s
}

// reads waits until the page says something.
func (b *chromium) reads(words string) {
	b.t.Helper()
	eventually(b.t, time.Minute, "the page says "+words, func() bool {
		ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
		defer cancel()
		s, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body")))
		return err == nil && strings.Contains(s, words) // a page that is just going has no text
	})
}

// picture keeps a picture of the page for people, if they name a directory.
func (b *chromium) picture(name string) {
	b.t.Helper()
	dir := os.Getenv("BANKFEED_TEST_PICTURES")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	require.NoError(b.t, err)
	require.NoError(b.t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644))
}
