package sandbox

import (
	"fmt"
	"strconv"
	"strings"
)

// ledger is one account as it looks at one moment: the generated entries with
// what events did to them. It is a snapshot and needs no lock.
type ledger struct {
	account
	today int
	post  []posted     // of this account, oldest first
	early map[int]bool // days whose pending entries were booked at once
	shift int64        // added to every balance
	ids   flaw         // how this user's ids are spoilt, if at all
	fetch int64        // number of this fetch, for ids that change
}

// oldest is the first booking day the bank still shows.
func (l *ledger) oldest() int {
	days := historyDays
	if l.perDay > 0 {
		days = bulkDays
	}
	return max(l.opened, l.today-days+1)
}

// bookedOn are the entries booked on a day, newest first. It must not be
// called for the index-based account.
func (l *ledger) bookedOn(day int) []entry {
	out := l.postedOn(day)
	n := len(out)
	for _, e := range l.entries(day - 1) {
		if e.booked == day && !l.early[day-1] {
			out = append(out, e)
		}
	}
	for _, e := range l.entries(day) {
		switch {
		case e.booked == day:
			out = append(out, e)
		case e.booked == day+1 && l.early[day]:
			e.booked = day
			out = append(out, e)
		}
	}
	for i, j := n, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}

func (l *ledger) postedOn(day int) []entry {
	var out []entry
	for i := len(l.post) - 1; i >= 0; i-- {
		if p := &l.post[i]; p.Booked == day {
			out = append(out, entry{day: p.Day, booked: p.Booked, minor: p.Minor, fired: p})
		}
	}
	return out
}

// page returns up to limit entries booked from day from to day to, newest
// first, after skipping offset of them, and whether there are more.
func (l *ledger) page(from, to, offset, limit int) (list []entry, more bool) {
	from, to = max(from, l.oldest()), min(to, l.today)
	for day := to; day >= from; day-- {
		var head []entry
		var count int
		if l.perDay > 0 {
			head = l.postedOn(day)
			count = len(head) + l.perDay
		} else {
			head = l.bookedOn(day)
			count = len(head)
		}
		if offset >= count {
			offset -= count
			continue
		}
		for i := offset; i < count; i++ {
			if len(list) == limit {
				return list, true
			}
			if i < len(head) {
				list = append(list, head[i])
			} else {
				list = append(list, l.bulkEntry(day, l.perDay-1-(i-len(head))))
			}
		}
		offset = 0
	}
	return list, false
}

// pending are the entries that are not booked yet, newest first.
func (l *ledger) pending() []entry {
	var out []entry
	for i := len(l.post) - 1; i >= 0; i-- {
		if p := &l.post[i]; p.Day <= l.today && p.Booked > l.today {
			out = append(out, entry{day: p.Day, booked: p.Booked, minor: p.Minor, fired: p})
		}
	}
	if l.perDay > 0 {
		return out
	}
	list := l.entries(l.today)
	for i := len(list) - 1; i >= 0; i-- {
		if e := list[i]; l.isPending(e) {
			out = append(out, e)
		}
	}
	return out
}

func (l *ledger) isPending(e entry) bool {
	if e.fired != nil {
		return e.day <= l.today && e.booked > l.today
	}
	return e.day == l.today && e.booked > l.today && !(l.early[e.day] && e.booked != notBooked)
}

// sum is the booked balance at the end of a day and at the end of the day before.
func (l *ledger) sum(day int) (end, before int64) {
	before = l.opening + l.shift
	var last int64
	if l.perDay > 0 {
		per := l.bulkDaySum()
		before += per * int64(max(0, day-l.opened))
		if day >= l.opened {
			last = per
		}
		for _, p := range l.post {
			if p.Booked < day {
				before += p.Minor
			} else if p.Booked == day {
				last += p.Minor
			}
		}
		return before + last, before
	}
	for _, p := range l.post {
		if p.Booked < day {
			before += p.Minor
		} else if p.Booked == day {
			last += p.Minor
		}
	}
	for d := l.opened; d <= day; d++ {
		for _, e := range l.entries(d) {
			if e.booked == d+1 && l.early[d] {
				e.booked = d
			}
			if e.booked < day {
				before += e.minor
			} else if e.booked == day {
				last += e.minor
			}
		}
	}
	return before + last, before
}

// id is what the bank calls an entry. A pending entry and the booked one it
// becomes share nothing in their ids.
func (l *ledger) id(e entry, pending bool) string {
	day, slot, kind := e.day, e.slot, "B"
	if e.fired != nil {
		slot, kind = int(e.fired.Seq), "F"
	}
	if pending {
		kind = strings.ToLower(kind)
	}
	check := dice(l.key ^ uint64(day)<<32 ^ uint64(slot)<<8 ^ uint64(kind[0]))
	return fmt.Sprintf("%s%08x-%s-%06d", kind, uint32(check.next()), dayTime(day).Format("20060102"), slot)
}

// find is the inverse of id; it sees only what the ledger shows now.
func (l *ledger) find(id string) (e entry, pending, ok bool) {
	parts := strings.Split(id, "-")
	if len(parts) != 3 || len(parts[0]) != 9 || len(parts[1]) != 8 {
		return entry{}, false, false
	}
	slot, err := strconv.Atoi(parts[2])
	if err != nil || slot < 0 {
		return entry{}, false, false
	}
	day, err := parseDay(parts[1][:4] + "-" + parts[1][4:6] + "-" + parts[1][6:])
	if err != nil || day > l.today || day < l.opened {
		return entry{}, false, false
	}
	switch kind := parts[0][:1]; {
	case strings.EqualFold(kind, "F"):
		for i := range l.post {
			if p := &l.post[i]; int(p.Seq) == slot {
				e, ok = entry{day: p.Day, booked: p.Booked, minor: p.Minor, fired: p}, true
			}
		}
	case l.perDay > 0:
		if slot < l.perDay {
			e, ok = l.bulkEntry(day, slot), true
		}
	default:
		if list := l.entries(day); slot < len(list) {
			e, ok = list[slot], true
			if e.booked == day+1 && l.early[day] {
				e.booked = day
			}
		}
	}
	if !ok {
		return entry{}, false, false
	}
	pending = l.isPending(e)
	if !pending && (e.booked > l.today || e.booked < l.oldest()) {
		return entry{}, false, false
	}
	return e, pending, l.id(e, pending) == id
}
