package statement

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector"
)

// decoder goes through one document in JSON.
type decoder struct {
	json   *json.Decoder
	in     *bounded
	limits Limits

	head     connector.StatementHead
	accounts []bankfeed.Account
	known    []bankfeed.Account // in the second reading, which checks no accounts
	count    int                // of transactions
	names    []naming           // of accounts
	faults   bankfeed.Faults

	transaction func(account, i int, t bankfeed.Transaction) error
}

// errMany ends the reading: enough is known to be wrong.
var errMany = errors.New("statement: too many faults")

func newDecoder(r io.Reader, l Limits) *decoder {
	b := bufio.NewReader(r)
	if mark, err := b.Peek(3); err == nil && string(mark) == "\ufeff" {
		_, _ = b.Discard(3) // it was peeked
	}
	in := &bounded{r: b}
	return &decoder{json: json.NewDecoder(in), in: in, limits: l}
}

// bounded keeps one value from filling the memory: between two of them no more
// is read than a value and the decoder's room take.
type bounded struct {
	r          io.Reader
	read, mark int64
}

const maxAhead = 8 * maxRecord

var errLarge = bankfeed.Errorf(bankfeed.Invalid, "a value of the document is too large")

func (b *bounded) Read(p []byte) (int, error) {
	if b.read-b.mark > maxAhead {
		return 0, errLarge
	}
	n, err := b.r.Read(p)
	b.read += int64(n)
	return n, err
}

func (d *decoder) fault(path, text string) {
	if len(d.faults) < maxFaults {
		d.faults = append(d.faults, &bankfeed.Error{Kind: bankfeed.Invalid, Field: path, Text: text})
	}
}

func (d *decoder) invalid(path, format string, args ...any) {
	d.fault(path, fmt.Sprintf(format, args...))
}

func (d *decoder) missing(path string) { d.fault(path, bankfeed.TextMissing) }

// with is everything that is wrong, nil if nothing is.
func (d *decoder) with(err error) error {
	var e *bankfeed.Error
	switch {
	case err == nil && len(d.faults) == 0:
		return nil
	case err == nil, errors.Is(err, errMany):
	case errors.As(err, &e):
		d.faults = append(d.faults, e)
	default:
		return err
	}
	return d.faults
}

// stop ends the reading at something that is not what it must be.
func stop(path, format string, args ...any) error {
	return bankfeed.InvalidField(path, format, args...)
}

func (d *decoder) syntax(path string, err error) error {
	path = cmp.Or(path, "body")
	var known *bankfeed.Error
	if errors.As(err, &known) {
		if known == errLarge {
			return stop(path, "holds a value that is too large")
		}
		return err
	}
	var s *json.SyntaxError
	if errors.As(err, &s) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return stop(path, bankfeed.TextNotJSON+" at byte %d", d.json.InputOffset())
	}
	return err
}

func (d *decoder) token(path string) (json.Token, error) {
	d.in.mark = d.json.InputOffset()
	t, err := d.json.Token()
	if err != nil {
		return nil, d.syntax(path, err)
	}
	return t, nil
}

// value reads one value whole.
func (d *decoder) value(path string, limit int) (v json.RawMessage, err error) {
	d.in.mark = d.json.InputOffset()
	if err := d.json.Decode(&v); err != nil {
		return nil, d.syntax(path, err)
	}
	if len(v) > limit {
		return nil, stop(path, "is larger than %d bytes", limit)
	}
	return v, nil
}

// list reads the start of an array; a null has no elements.
func (d *decoder) list(path string) (empty bool, err error) {
	t, err := d.token(path)
	switch {
	case err != nil:
		return false, err
	case t == nil:
		return true, nil
	case t != json.Delim('['):
		return false, stop(path, "must be an array")
	}
	return false, nil
}

// members goes through an object whose start was read. f reads one value.
func (d *decoder) members(path string, f func(name string) error) error {
	var seen [8]string
	names := seen[:0]
	for d.json.More() {
		t, err := d.token(path)
		if err != nil {
			return err
		}
		name, _ := t.(string) // an object's key always is one
		if err := f(name); err != nil {
			return err
		}
		if placed[name] || len(names) < maxMembers {
			if slices.Contains(names, name) {
				d.invalid(join(path, name), "was given twice")
			}
			names = append(names, name)
		}
		if len(d.faults) == maxFaults {
			return errMany
		}
	}
	_, err := d.token(path)
	return err
}

// maxMembers is up to how many members of an object are compared that the hub has
// no place for.
const maxMembers = 64

func join(path, name string) string {
	if path == "" {
		return plain(name)
	}
	return path + "." + plain(name)
}

// plain does not repeat what is no name: it may hold anything.
func plain(name string) string {
	if name == "" || len(name) > 40 {
		return "?"
	}
	for _, c := range []byte(name) {
		if !(c == '_' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z') {
			return "?"
		}
	}
	return name
}

func accountPath(i int) string { return "accounts[" + strconv.Itoa(i) + "]" }

func transactionPath(account, i int) string {
	return accountPath(account) + ".transactions[" + strconv.Itoa(i) + "]"
}

// document reads everything.
func (d *decoder) document() error {
	t, err := d.token("body")
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return stop("body", "must be an object")
	}
	var head headRecord
	none := true
	err = d.members("", func(name string) error {
		if name == "accounts" {
			none = false
			return d.accountList()
		}
		v, err := d.value(plain(name), maxRecord)
		if err != nil {
			return err
		}
		head.set(name, v)
		return nil
	})
	if err != nil {
		return err
	}
	if d.known != nil {
		return nil // the second reading
	}
	if _, err := d.json.Token(); !errors.Is(err, io.EOF) {
		if err == nil || errors.As(err, new(*json.SyntaxError)) {
			return stop("body", "has something after the document")
		}
		return d.syntax("body", err)
	}
	d.readHead(&head)
	if none || len(d.accounts) == 0 && len(d.faults) == 0 {
		d.missing("accounts")
	}
	return nil
}

func (d *decoder) accountList() error {
	empty, err := d.list("accounts")
	if empty || err != nil {
		return err
	}
	for i := 0; d.json.More(); i++ {
		if i == d.limits.Accounts {
			return stop("accounts", "has more than %d entries", d.limits.Accounts)
		}
		if err := d.account(i); err != nil {
			return err
		}
	}
	_, err = d.token("accounts")
	return err
}

// account reads one account. Its transactions may come before its name.
func (d *decoder) account(i int) error {
	path := accountPath(i)
	t, err := d.token(path)
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return stop(path, "must be an object")
	}
	var a accountRecord
	raw := bytes.NewBufferString("{")
	err = d.members(path, func(name string) error {
		if name == "transactions" {
			return d.transactions(i)
		}
		v, err := d.value(join(path, name), maxAccount)
		if err != nil || d.known != nil {
			return err
		}
		if raw.Len() > 1 {
			raw.WriteByte(',')
		}
		key, _ := json.Marshal(name) // a string always has a form
		raw.Write(key)
		raw.WriteByte(':')
		raw.Write(v)
		if raw.Len() >= maxAccount {
			return stop(path, "is larger than %d bytes without its transactions", maxAccount)
		}
		a.set(name, v)
		return nil
	})
	if err != nil || d.known != nil {
		return err
	}
	raw.WriteByte('}')
	d.readAccount(i, &a, raw.Bytes())
	return nil
}

func (d *decoder) transactions(account int) error {
	path := accountPath(account) + ".transactions"
	empty, err := d.list(path)
	if empty || err != nil {
		return err
	}
	for i := 0; d.json.More(); i++ {
		at := transactionPath(account, i)
		if d.count++; d.count > d.limits.Transactions {
			return stop(at, "is beyond the %d transactions of one request", d.limits.Transactions)
		}
		raw, err := d.value(at, maxRecord)
		if err != nil {
			return err
		}
		t, ok := d.readTransaction(account, at, raw)
		if ok {
			if err := d.transaction(account, i, t); err != nil {
				return err
			}
		}
		if len(d.faults) == maxFaults {
			return errMany
		}
	}
	_, err = d.token(path)
	return err
}
