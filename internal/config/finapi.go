package config

import (
	"time"
	_ "time/tzdata" // a container may have no zones of its own
)

// FinAPISettings say how the finAPI dialect behaves where its clients notice.
type FinAPISettings struct {
	FinAPITimeZone string `name:"finapi-time-zone" env:"BANKFEED_FINAPI_TIME_ZONE" default:"Europe/Berlin" placeholder:"ZONE" help:"The time zone of every time in the finAPI dialect, which writes them without one."`
	FinAPIFresh    string `name:"finapi-fresh" env:"BANKFEED_FINAPI_FRESH" default:"1h" placeholder:"DURATION" help:"Stored data that is younger answers a synchronization of the finAPI dialect; no bank is called."`
	WebFormLife    string `env:"BANKFEED_WEB_FORM_LIFE" default:"20m" placeholder:"DURATION" help:"How long a user can connect a bank on a web form of the finAPI dialect."`
	ProcessDays    string `env:"BANKFEED_PROCESS_DAYS" default:"14" placeholder:"DAYS" help:"How long a process of the finAPI dialect lives: its token can be exchanged for so long, then its hidden user and the user's data are erased."`
}

// FinAPI are FinAPISettings, checked.
type FinAPI struct {
	Zone        *time.Location
	Fresh       time.Duration
	WebFormLife time.Duration
	ProcessLife time.Duration
}

func (s FinAPISettings) check(f *faults) FinAPI {
	zone, err := time.LoadLocation(s.FinAPITimeZone)
	if err != nil || s.FinAPITimeZone == "" || s.FinAPITimeZone == "Local" {
		f.add(named("finapi-time-zone"), "must be a time zone such as Europe/Berlin or UTC")
		zone = time.UTC
	}
	return FinAPI{
		Zone:        zone,
		Fresh:       max(1, f.duration("finapi-fresh", s.FinAPIFresh, 30*24*time.Hour)), // 0 would be the default
		WebFormLife: max(time.Minute, f.duration("web-form-life", s.WebFormLife, 30*24*time.Hour)),
		ProcessLife: time.Duration(f.number("process-days", s.ProcessDays, 1, 3650)) * 24 * time.Hour,
	}
}
