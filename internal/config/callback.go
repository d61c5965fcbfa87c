package config

import (
	"net/netip"
	"time"
)

// CallbackSettings say how receivers are called.
type CallbackSettings struct {
	CallbackAllow    string `env:"BANKFEED_CALLBACK_ALLOW" placeholder:"CIDRS" help:"Private networks in which receivers of callbacks may be called, on any port. Without it only public addresses are."`
	CallbackSchedule string `env:"BANKFEED_CALLBACK_SCHEDULE" default:"5s,5m,30m,2h,5h,10h,14h,20h,24h" placeholder:"LIST" help:"How long after each failed attempt of a callback the next one comes. After the last a delivery is given up, if its receiver accepted others meanwhile."`
	CallbackJitter   string `env:"BANKFEED_CALLBACK_JITTER" default:"20" placeholder:"PERCENT" help:"By how much the pauses of the schedule vary at random, up and down, so that what failed together does not come back together."`
	CallbackTimeout  string `env:"BANKFEED_CALLBACK_TIMEOUT" default:"15s" placeholder:"DURATION" help:"How long one attempt of a callback may take, from the name's lookup to the end of the answer."`
	CallbackDelay    string `env:"BANKFEED_CALLBACK_DELAY" default:"500ms" placeholder:"DURATION" help:"The callback of a request comes no earlier than this after the request was answered: its caller has stored the answer by then."`
}

// Callbacks are CallbackSettings, checked.
type Callbacks struct {
	Allow    []netip.Prefix
	Schedule []time.Duration
	Jitter   float64 // 0.2: 20 % up or down
	Timeout  time.Duration
	Delay    time.Duration
}

// maxSchedule bounds how often a callback is tried.
const maxSchedule = 50

func (s CallbackSettings) check(f *faults) Callbacks {
	return Callbacks{
		Allow:    f.networks("callback-allow", s.CallbackAllow),
		Schedule: f.durations("callback-schedule", s.CallbackSchedule, maxSchedule, 7*24*time.Hour),
		Jitter:   float64(f.number("callback-jitter", s.CallbackJitter, 0, 50)) / 100,
		Timeout:  max(time.Millisecond, f.duration("callback-timeout", s.CallbackTimeout, 5*time.Minute)),
		Delay:    f.duration("callback-delay", s.CallbackDelay, time.Minute),
	}
}

// durations reads a list of pauses; an empty one would be no schedule at all.
func (f *faults) durations(flag, text string, most int, longest time.Duration) []time.Duration {
	var list []time.Duration
	for _, word := range words(text) {
		d, err := time.ParseDuration(word)
		if err != nil || d <= 0 || d > longest {
			list = nil
			break
		}
		list = append(list, d)
	}
	if len(list) == 0 || len(list) > most {
		f.add(named(flag), "must be a list of 1 to %d durations such as 5s,5m,2h, each above 0 and %s at most", most, longest)
		return nil
	}
	return list
}
