package webform

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/bankfeed/bankfeed"
)

// maxSearch is how much of what the user searches for counts; no bank's name is
// longer.
const maxSearch = 255

// maxBanks is how many banks a page lists; a search finds the others.
const maxBanks = 50

// choose shows the banks, or the ways to one of them.
func (v *visit) choose(ctx context.Context, q url.Values) (page, error) {
	if v.d.Bank != "" {
		return v.how(ctx, v.d.Bank)
	}
	if bank := q.Get("bank"); bank != "" {
		p, err := v.how(ctx, bank)
		if !errors.Is(err, bankfeed.ErrNotFound) {
			return p, err
		}
	}
	user, err := v.s.Store.User(ctx, v.tenant, v.r.User)
	if err != nil {
		return page{}, err
	}
	var banks []bankfeed.Provider
	for _, p := range v.s.Links.Providers(v.r.Sandbox) {
		if serves(p, user) && len(modesOf(p, v.d.Modes)) > 0 {
			banks = append(banks, p)
		}
	}
	slices.SortStableFunc(banks, func(a, b bankfeed.Provider) int {
		return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
	words := strings.ToValidUTF8(q.Get("q")[:min(len(q.Get("q")), maxSearch)], "")
	if !q.Has("q") {
		words = v.d.Search
	}
	found := search(banks, words)
	if len(found) == 0 && !q.Has("q") {
		found = banks // what the client knew of the bank does not help
		words = ""
	}
	if len(found) == 1 && !q.Has("q") && !q.Has("choose") {
		return v.how(ctx, found[0].ID)
	}
	p := v.message(http.StatusOK, "Choose your bank", "")
	p.view.Query, p.view.Searchable = words, len(banks) > searchFrom
	if len(found) == 0 {
		p.fault = "No bank was found for that. Try part of its name, or its BIC."
	}
	p.view.More = len(found) > maxBanks
	for _, b := range found[:min(len(found), maxBanks)] {
		p.view.Banks = append(p.view.Banks, bank{b.ID, b.Name, b.BIC})
	}
	p.view.Cancel = true
	return p, nil
}

// searchFrom is the number of banks that need no search.
const searchFrom = 8

// search finds banks by words of their name, by BIC, or by number.
func search(banks []bankfeed.Provider, words string) (found []bankfeed.Provider) {
	words = strings.ToLower(strings.TrimSpace(words))
	for _, b := range banks {
		in := strings.ToLower(b.Name + " " + b.BIC)
		match := b.ID == words
		if !match {
			match = true
			for w := range strings.FieldsSeq(words) {
				match = match && strings.Contains(in, w)
			}
		}
		if match {
			found = append(found, b)
		}
	}
	return found
}

// how shows the ways to a bank.
func (v *visit) how(ctx context.Context, id string) (page, error) {
	b, modes, err := v.offer(ctx, id)
	if err != nil {
		return page{}, err
	}
	if len(modes) == 0 {
		return page{}, bankfeed.ErrNotFound
	}
	p := v.message(http.StatusOK, "Connect your bank", "")
	if v.d.Type == Update {
		p.title = "Renew the access"
		p.text = "Your bank wants to see you before your accounts can be read again."
	}
	p.bank = b.Name
	p.view.Bank = b.ID
	for i, m := range modes {
		w := way{Mode: m, Name: "On the pages of your bank", Hint: "You log in at your bank and confirm there. Your password stays with your bank.", First: i == 0}
		if m == bankfeed.Embedded {
			w.Name, w.Hint = "With your bank login, here", "You enter the login of your online banking on the next page. It is passed on to your bank and not kept."
		}
		p.view.Ways = append(p.view.Ways, w)
	}
	p.view.Choice, p.view.Step, p.view.Cancel = len(modes) > 1, strconv.Itoa(v.d.Tries), true
	if v.d.Bank == "" {
		p.view.Other = "?choose=1"
	}
	return p, nil
}
