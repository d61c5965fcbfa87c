package telemetry

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/bankfeed/bankfeed"
)

// Metrics are the numbers of one node. No label holds an id: the values of
// every label are a small closed set.
type Metrics struct {
	registry *prometheus.Registry

	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	inFlight  prometheus.Gauge
	polls     *prometheus.CounterVec
	events    prometheus.Counter
	commits   prometheus.Counter
	claims    *prometheus.CounterVec
	running   *prometheus.GaugeVec
	bankCalls *prometheus.CounterVec
	bankTime  prometheus.Histogram
	restarts  *prometheus.CounterVec
	streamed  *prometheus.CounterVec
	called    *prometheus.CounterVec
	callTime  prometheus.Histogram
	callAge   prometheus.Histogram
}

// NewMetrics makes them, with those of the Go runtime and of the process.
func NewMetrics() *Metrics {
	seconds := []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bankfeed_http_requests_total",
			Help: "Requests answered, by route."}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "bankfeed_http_request_seconds", Buckets: seconds,
			Help: "Time until a request was answered; long polls and streams are left out."}, []string{"route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "bankfeed_http_requests_in_flight",
			Help: "Requests under way, long polls and streams included."}),
		polls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bankfeed_queue_polls_total",
			Help: "Answers to polls of Oxlin queues."}, []string{"result"}),
		events: prometheus.NewCounter(prometheus.CounterOpts{Name: "bankfeed_events_appended_total",
			Help: "Events that this node committed to the log."}),
		commits: prometheus.NewCounter(prometheus.CounterOpts{Name: "bankfeed_event_commits_total",
			Help: "Commits of this node that appended events."}),
		claims: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bankfeed_lease_claims_total",
			Help: "Work that this node claimed and gave back, by kind and by how it ended."}, []string{"kind", "result"}),
		running: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "bankfeed_lease_running",
			Help: "Claimed work under way on this node."}, []string{"kind"}),
		bankCalls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bankfeed_bank_requests_total",
			Help: "HTTP exchanges with banks; status 0 is none."}, []string{"status"}),
		bankTime: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "bankfeed_bank_request_seconds", Buckets: seconds,
			Help: "Time until a bank's answer began."}),
		restarts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bankfeed_worker_restarts_total",
			Help: "Restarts of a background worker after it failed."}, []string{"worker"}),
		streamed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bankfeed_stream_messages_total",
			Help: "Messages that a broker confirmed to this node, repeats included."}, []string{"message", "routed"}),
		called: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bankfeed_callback_attempts_total",
			Help: "Attempts to call a receiver: of a subscription or of a request, what became of the delivery, and why it failed."}, []string{"sink", "state", "cause"}),
		callTime: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "bankfeed_callback_attempt_seconds", Buckets: seconds,
			Help: "Time that an attempt to call a receiver took."}),
		callAge: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "bankfeed_callback_first_delivery_seconds", Buckets: seconds,
			Help: "Time from an event's commit until a receiver had taken it at the first attempt."}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "bankfeed_build_info", Help: "Always 1.",
		ConstLabels: prometheus.Labels{"build": BuildID()}})
	build.Set(1)
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build,
		m.requests, m.seconds, m.inFlight, m.polls, m.events, m.commits, m.claims, m.running, m.bankCalls, m.bankTime, m.restarts, m.streamed,
		m.called, m.callTime, m.callAge)
	return m
}

// Handler serves the numbers in Prometheus' text form.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Gauge is a number that is asked for when somebody reads the metrics. value
// reports false if it is not to be had, and then nothing is shown.
func (m *Metrics) Gauge(name, help string, labels map[string]string, value func() (float64, bool)) {
	m.registry.MustRegister(&asked{prometheus.NewDesc(name, help, nil, labels), value})
}

type asked struct {
	desc  *prometheus.Desc
	value func() (float64, bool)
}

func (a *asked) Describe(ch chan<- *prometheus.Desc) { ch <- a.desc }

func (a *asked) Collect(ch chan<- prometheus.Metric) {
	if v, ok := a.value(); ok {
		ch <- prometheus.MustNewConstMetric(a.desc, prometheus.GaugeValue, v)
	}
}

// Started counts a request that begins.
func (m *Metrics) Started() { m.inFlight.Inc() }

// Answered counts a request that ended. waited: it was a long poll or a stream.
func (m *Metrics) Answered(route, method string, status int, took time.Duration, waited bool) {
	m.inFlight.Dec()
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	if !waited {
		m.seconds.WithLabelValues(route).Observe(took.Seconds())
	}
}

// Polled counts an answer to a poll of a queue.
func (m *Metrics) Polled(result string) { m.polls.WithLabelValues(result).Inc() }

// Streamed counts a message that a broker confirmed.
func (m *Metrics) Streamed(message string, routed bool) {
	m.streamed.WithLabelValues(message, strconv.FormatBool(routed)).Inc()
}

// CalledBack counts an attempt to call a receiver; age is that of the event.
func (m *Metrics) CalledBack(subscription bool, state, cause string, took, age time.Duration, first bool) {
	sink := "request"
	if subscription {
		sink = "subscription"
	}
	m.called.WithLabelValues(sink, state, cause).Inc()
	m.callTime.Observe(took.Seconds())
	if first && cause == "" {
		m.callAge.Observe(age.Seconds())
	}
}

// Committed counts a commit that appended events.
func (m *Metrics) Committed(c bankfeed.Committed) {
	m.commits.Inc()
	m.events.Add(float64(c.Last - c.First + 1))
}

// Claimed counts a claim that begins; the function it returns, its end.
func (m *Metrics) Claimed(kind bankfeed.WorkKind) (ended func(result string)) {
	g := m.running.WithLabelValues(string(kind))
	g.Inc()
	return func(result string) {
		g.Dec()
		m.claims.WithLabelValues(string(kind), result).Inc()
	}
}

// BankAnswered counts an exchange with a bank.
func (m *Metrics) BankAnswered(status int, took time.Duration) {
	m.bankCalls.WithLabelValues(strconv.Itoa(status)).Inc()
	m.bankTime.Observe(took.Seconds())
}

// Restarted counts a restart of a worker.
func (m *Metrics) Restarted(worker string) { m.restarts.WithLabelValues(worker).Inc() }
