package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/schollz/progressbar/v3"

	"github.com/bankfeed/bankfeed/internal/app"
	"github.com/bankfeed/bankfeed/internal/config"
	"github.com/bankfeed/bankfeed/internal/telemetry"
)

type keysCommand struct {
	List   keysList   `cmd:"" help:"List the keys, without what they hold."`
	Rotate keysRotate `cmd:"" help:"Add a new primary key and bring all users' keys under it."`
	Rewrap keysRewrap `cmd:"" help:"Bring the keyset under a new master key (with BANKFEED_MASTER_KEY_PREVIOUS), and users' keys under the primary key."`
}

type keysList struct {
	config.Common
}

func (k *keysList) Run(ctx context.Context, t *terminal) (err error) {
	d, err := t.openData(ctx, k.Common)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	users, err := d.Store.Keys().Count(ctx)
	if err != nil {
		return err
	}
	note := ""
	if d.Keyring.NeedsRewrap() {
		note = "  (the keyset is still under the previous one: run bankfeed keys rewrap)"
	}
	fmt.Fprintf(t.out, "master key  %s%s\n", d.Master.ID(), note)
	for _, id := range d.Keyring.IDs() {
		note = ""
		if id == d.Keyring.PrimaryID() {
			note = "  primary"
		}
		fmt.Fprintf(t.out, "key         %08x%s\n", id, note)
	}
	_, err = fmt.Fprintf(t.out, "users' keys %d\n", users)
	return err
}

type keysRotate struct {
	config.Common
}

func (k *keysRotate) Run(ctx context.Context, t *terminal) (err error) {
	d, err := t.openData(ctx, k.Common)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	id, err := d.Keyring.Rotate(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(t.out, "primary key %08x\n", id)
	return t.rewrapUsers(ctx, d)
}

type keysRewrap struct {
	config.Common
}

func (k *keysRewrap) Run(ctx context.Context, t *terminal) (err error) {
	d, err := t.openData(ctx, k.Common)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if d.Keyring.NeedsRewrap() {
		if err := d.Keyring.Rewrap(ctx); err != nil {
			return err
		}
		fmt.Fprintln(t.out, "the keyset is under master key", d.Master.ID()+"; the previous one is needed no more once every node has this one")
	}
	return t.rewrapUsers(ctx, d)
}

func (t *terminal) rewrapUsers(ctx context.Context, d *app.Data) error {
	total, err := d.Store.Keys().Count(ctx)
	if err != nil {
		return err
	}
	bar := t.bar(total, "users' keys")
	changed, err := d.UserKeys.Rewrap(ctx, func(seen int) { _ = bar.Set(min(seen, total)) })
	_ = bar.Finish()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.out, "%d of %d users' keys brought under the primary key\n", changed, total)
	return err
}

// bar shows progress on a terminal, and nothing elsewhere.
func (t *terminal) bar(total int, what string) *progressbar.ProgressBar {
	w := io.Discard
	if telemetry.IsTerminal(t.err) {
		w = t.err
	}
	return progressbar.NewOptions(total, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what), progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish())
}
