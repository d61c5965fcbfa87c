// Package identity recognises accounts and transactions when a bank lists them
// again, and decides what is new, changed and gone. It is pure: what is stored
// comes in as values, a decision goes out, and nothing here knows a database, a
// clock or a bank's protocol.
//
// The promise it carries is that no transaction is lost or doubled. What is not
// certain while a list is being read is held back until its end; see [Listing].
package identity

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/bankfeed/bankfeed"
)

// Recipe is the version of the way identities are computed. Stored identities
// of another recipe compare with nothing: whoever changes what Of computes
// raises it and re-keys the stored rows from their content.
const Recipe = 1

// Of computes how a transaction is recognised. The result depends on nothing
// but the transaction and is the same on every machine.
//
// Key is of the bank's id: the transaction id, else the entry reference; 0 when
// both are missing or placeholders. Fingerprint is of what a bank does not
// change once an entry is booked: day, amount, counterparty, remittance and
// end-to-end id, whether booked or pending. Content is of everything that the
// hub shows, except the bank's ids: a bank that gives an entry a new id with
// every fetch would otherwise change it with every fetch.
func Of(t *bankfeed.Transaction) bankfeed.Identity {
	var room [1024]byte
	amount := t.Money.Amount.Canonical()
	id := bankfeed.Identity{Key: keyOf(room[:0], t)}

	b := append(room[:0], Recipe, 'f')
	b = field(b, string(dateOf(t)))
	b = field(b, amount)
	b = field(b, t.Money.Currency)
	p := counterparty(t)
	b = folded(b, p.Name)
	b = field(b, string(p.Account.Type))
	b = folded(b, p.Account.Value)
	b = folded(b, t.Remittance...)
	b = folded(b, t.Structured...)
	if !placeholder(t.EndToEndID) {
		b = folded(b, t.EndToEndID)
	}
	id.Fingerprint = sum(b)
	id.Content = sum(content(room[:0], t, amount))
	return id
}

func keyOf(b []byte, t *bankfeed.Transaction) uint64 {
	b = append(b, Recipe)
	switch {
	case !placeholder(t.BankID):
		b = append(append(b, 'k'), strings.TrimSpace(t.BankID)...)
	case !placeholder(t.EntryReference):
		b = append(append(b, 'r'), strings.TrimSpace(t.EntryReference)...)
	default:
		return 0
	}
	return sum(b)
}

func content(b []byte, t *bankfeed.Transaction, amount string) []byte {
	b = append(b, Recipe, 'c')
	b = field(b, string(t.Status))
	b = field(b, amount)
	b = field(b, t.Money.Currency)
	b = field(b, string(t.BookingDate))
	b = field(b, string(t.ValueDate))
	b = field(b, string(t.TransactionDate))
	b = field(b, t.EndToEndID)
	b = field(b, t.MandateID)
	b = field(b, t.CreditorID)
	b = field(b, t.CheckID)
	for _, p := range [...]*bankfeed.Party{&t.Creditor, &t.Debtor} {
		b = field(b, p.Name)
		b = field(b, p.Address)
		b = field(b, string(p.Account.Type))
		b = field(b, p.Account.Value)
		b = field(b, p.Agent)
	}
	b = field(b, t.UltimateCreditor)
	b = field(b, t.UltimateDebtor)
	b = fields(b, t.Remittance)
	b = fields(b, t.Structured)
	b = field(b, t.AdditionalInfo)
	b = field(b, t.PurposeCode)
	b = field(b, t.BankCode)
	b = field(b, t.ProprietaryCode)
	if m := t.BalanceAfter; m != nil {
		b = field(b, m.Amount.Canonical())
		b = field(b, m.Currency)
	} else {
		b = append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(t.Exchange)))
	for i := range t.Exchange {
		x := &t.Exchange[i]
		b = field(b, x.SourceCurrency)
		b = field(b, x.TargetCurrency)
		b = field(b, x.UnitCurrency)
		b = field(b, x.Rate)
		b = field(b, string(x.Date))
	}
	return b
}

// sum is never 0, which stands for "none".
func sum(b []byte) uint64 {
	h := sha256.Sum256(b)
	return max(binary.BigEndian.Uint64(h[:8]), 1)
}

// field is prefixed by its length, so that no two sequences of fields are
// written alike.
func field(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func fields(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = field(b, s)
	}
	return b
}

// folded writes texts as one, without blanks and in one case: banks break the
// same text into different lines and pad it.
func folded(b []byte, texts ...string) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	for _, s := range texts {
		for i := 0; i < len(s); {
			c := s[i]
			if c < utf8.RuneSelf {
				i++
				switch {
				case c == ' ' || '\t' <= c && c <= '\r':
				case 'a' <= c && c <= 'z':
					b = append(b, c-'a'+'A')
				default:
					b = append(b, c)
				}
				continue
			}
			r, n := utf8.DecodeRuneInString(s[i:])
			if !unicode.IsSpace(r) {
				b = append(b, s[i:i+n]...)
			}
			i += n
		}
	}
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// counterparty is the other side of a movement; a bank that names one side only
// does not always name the right one.
func counterparty(t *bankfeed.Transaction) *bankfeed.Party {
	other, own := &t.Creditor, &t.Debtor
	if t.Money.Amount.Sign() > 0 {
		other, own = own, other
	}
	if other.Name == "" && other.Account.Value == "" {
		return own
	}
	return other
}

// dateOf is the day that the bank gives a transaction, empty if it gives none.
func dateOf(t *bankfeed.Transaction) bankfeed.Date {
	switch {
	case t.BookingDate != "":
		return t.BookingDate
	case t.ValueDate != "":
		return t.ValueDate
	}
	return t.TransactionDate
}

// placeholder reports whether an id says that there is none (contracts of ISO
// 20022 and SWIFT: NOTPROVIDED, NONREF; live banks: a blank, zeros, dashes).
func placeholder(id string) bool {
	var word [16]byte
	n, zeros := 0, true
	for i := range len(id) {
		c := id[i]
		switch {
		case 'a' <= c && c <= 'z':
			c -= 'a' - 'A'
		case 'A' <= c && c <= 'Z' || '0' <= c && c <= '9':
		case c < utf8.RuneSelf:
			continue // punctuation and blanks
		}
		zeros = zeros && c == '0'
		if n == len(word) {
			if !zeros {
				return false
			}
			continue
		}
		word[n] = c
		n++
	}
	if zeros {
		return true // also: nothing but punctuation
	}
	switch string(word[:n]) {
	case "NOTPROVIDED", "NOTAVAILABLE", "NONREF", "NOREF", "NOREFERENCE", "NONE", "NULL", "NIL", "NA", "NAN", "UNKNOWN", "UNDEFINED", "EMPTY":
		return true
	}
	return false
}
