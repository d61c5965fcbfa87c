package backing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// RabbitMQEnv names a RabbitMQ broker for tests and bench, as an amqp:// URL whose user may make virtual hosts.
const RabbitMQEnv = "BANKFEED_TEST_AMQP_URL"

// ManagementEnv names the management API of that broker, as an http:// URL without credentials. Unset, it is looked for on the
// broker's host at port 15672.
const ManagementEnv = "BANKFEED_TEST_AMQP_MANAGEMENT_URL"

// managementPort is where the management plugin listens unless told otherwise.
const managementPort = "15672"

// RabbitMQServer is a RabbitMQ broker that answers and lets us make virtual hosts.
type RabbitMQServer struct {
	URL        string // of the broker; holds the password
	Management string // base URL of its management API, without credentials; empty when it has none and rabbitmqctl serves
	Source     string // where it was found, to be shown: as PostgresServer.Source
	Version    string // as the broker states it: "3.10.8"
	admin      vhostAdmin
	stop       func() error
}

// vhostAdmin makes and removes virtual hosts in one of the ways a broker offers.
type vhostAdmin interface {
	create(ctx context.Context, vhost, user string) error
	remove(ctx context.Context, vhost string) error
}

// RabbitMQ finds or starts a RabbitMQ broker. The caller stops it.
func RabbitMQ(ctx context.Context) (*RabbitMQServer, error) {
	if named := os.Getenv(RabbitMQEnv); named != "" {
		s, err := openRabbitMQ(ctx, named, "environment", os.Getenv(ManagementEnv))
		if err != nil {
			return nil, fmt.Errorf("RabbitMQ of %s: %w", RabbitMQEnv, err)
		}
		return s, nil
	}
	s, errListening := openRabbitMQ(ctx, "amqp://guest:guest@127.0.0.1:5672/", "listening on 127.0.0.1:5672", "")
	if errListening == nil {
		return s, nil
	}
	p, errInstalled := PrivateRabbitMQ(ctx)
	if errInstalled == nil {
		return &p.RabbitMQServer, nil
	}
	s, errDocker := dockerRabbitMQ(ctx)
	if errDocker == nil {
		return s, nil
	}
	return nil, fmt.Errorf("RabbitMQ %w: %s is not set; %w; %w; %w", ErrNotFound, RabbitMQEnv, errListening, errInstalled, errDocker)
}

// openRabbitMQ connects to a broker. Without the address of its management API it tries the usual one.
func openRabbitMQ(ctx context.Context, address, source, management string) (*RabbitMQServer, error) {
	u, err := amqp.ParseURI(address)
	if err != nil {
		return nil, errors.New("not an amqp:// URL") // the error would print the password
	}
	s := &RabbitMQServer{URL: address, Source: source}
	if s.Version, err = dialRabbitMQ(address); err != nil {
		return nil, err
	}
	if management == "" {
		management = "http://" + net.JoinHostPort(u.Host, managementPort)
	}
	api := &managementAPI{base: strings.TrimSuffix(management, "/"), user: u.Username, password: u.Password}
	errAPI := api.check(ctx)
	if errAPI == nil {
		s.admin, s.Management = api, api.base
		return s, nil
	}
	errCtl := checkRabbitmqctl(ctx, u)
	if errCtl == nil {
		s.admin = rabbitmqctl{}
		return s, nil
	}
	return nil, fmt.Errorf("the broker answers, but gives no way to make a virtual host: %w; %w", errAPI, errCtl)
}

// dialRabbitMQ connects once and returns the broker's version.
func dialRabbitMQ(address string) (version string, err error) {
	c, err := amqp.DialConfig(address, amqp.Config{Dial: amqp.DefaultDial(5 * time.Second), Heartbeat: 10 * time.Second})
	if err != nil {
		return "", err
	}
	version, _ = c.Properties["version"].(string)
	return version, c.Close()
}

// Env is what names this broker to child processes.
func (s *RabbitMQServer) Env() []string {
	return []string{RabbitMQEnv + "=" + s.URL, ManagementEnv + "=" + s.Management}
}

// Stop ends a broker that was started for us, with its data. It leaves a broker that was only found alone.
func (s *RabbitMQServer) Stop() error {
	if s.stop == nil {
		return nil
	}
	return s.stop()
}

// CreateVHost makes a virtual host named prefix_<random> and returns its URL. drop removes it with all that is in it, and ends the
// connections to it; it works after ctx has ended.
func (s *RabbitMQServer) CreateVHost(ctx context.Context, prefix string) (address string, drop func() error, err error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return "", nil, errors.New("the broker's URL cannot be parsed") // url's own error would print the password
	}
	user := u.User.Username()
	if user == "" {
		user = "guest" // what the client library takes
	}
	name := prefix + "_" + randomHex(8)
	drop = func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if err := s.admin.remove(ctx, name); err != nil {
			return fmt.Errorf("drop virtual host %s: %w", name, err)
		}
		return nil
	}
	if err := s.admin.create(ctx, name, user); err != nil {
		return "", nil, errors.Join(fmt.Errorf("create virtual host %s: %w", name, err), drop())
	}
	u.Path = "/" + name
	return u.String(), drop, nil
}

// managementAPI is the HTTP interface of the management plugin.
type managementAPI struct{ base, user, password string }

func (m *managementAPI) check(ctx context.Context) error {
	return m.call(ctx, http.MethodGet, "/api/whoami", "")
}

func (m *managementAPI) create(ctx context.Context, vhost, user string) error {
	if err := m.call(ctx, http.MethodPut, "/api/vhosts/"+url.PathEscape(vhost), ""); err != nil {
		return err
	}
	return m.call(ctx, http.MethodPut, "/api/permissions/"+url.PathEscape(vhost)+"/"+url.PathEscape(user),
		`{"configure":".*","write":".*","read":".*"}`)
}

func (m *managementAPI) remove(ctx context.Context, vhost string) error {
	return m.call(ctx, http.MethodDelete, "/api/vhosts/"+url.PathEscape(vhost), "")
}

func (m *managementAPI) call(ctx context.Context, method, path, body string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, m.base+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.SetBasicAuth(m.user, m.password)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("management API: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 && (method != http.MethodDelete || res.StatusCode != http.StatusNotFound) {
		return fmt.Errorf("management API: %s %s: %s", method, path, res.Status)
	}
	return nil
}

// rabbitmqctl is the command line of a broker on this machine. Each call starts an Erlang machine, which takes a second.
type rabbitmqctl struct{}

// checkRabbitmqctl makes sure that rabbitmqctl may be used and reaches the broker of the URL, not another on this machine.
func checkRabbitmqctl(ctx context.Context, u amqp.URI) error {
	if ip := net.ParseIP(u.Host); u.Host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("rabbitmqctl: the broker runs elsewhere (%s)", u.Host)
	}
	out, err := rabbitmqctl{}.run(ctx, "--formatter", "json", "status")
	if err != nil {
		return err
	}
	var status struct {
		Listeners []struct {
			Port int `json:"port"`
		} `json:"listeners"`
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return fmt.Errorf("rabbitmqctl status: %w", err)
	}
	for _, l := range status.Listeners {
		if l.Port == u.Port {
			return nil
		}
	}
	return fmt.Errorf("rabbitmqctl: it reaches a broker that does not listen on port %d", u.Port)
}

func (rabbitmqctl) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return output(ctx, "rabbitmqctl", append([]string{"--quiet"}, args...)...)
}

func (r rabbitmqctl) create(ctx context.Context, vhost, user string) error {
	if _, err := r.run(ctx, "add_vhost", vhost); err != nil {
		return err
	}
	_, err := r.run(ctx, "set_permissions", "--vhost", vhost, user, ".*", ".*", ".*")
	return err
}

func (r rabbitmqctl) remove(ctx context.Context, vhost string) error {
	_, err := r.run(ctx, "delete_vhost", vhost)
	return err
}

// RabbitMQInstance is a private RabbitMQ broker that can be stopped, killed and started again on the same data and ports.
// Stop ends it with its data.
type RabbitMQInstance struct {
	RabbitMQServer
	instance
}

// PrivateRabbitMQ starts a RabbitMQ broker from the installed binaries, with its own node name, directory and ports of 127.0.0.1,
// whatever else is listening. The error is ErrNotFound when none is installed.
func PrivateRabbitMQ(ctx context.Context) (_ *RabbitMQInstance, err error) {
	// Debian's program on the PATH is a wrapper that insists on the system's own account and directories.
	program, ok := findBinary("/usr/lib/rabbitmq/bin/rabbitmq-server", "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server")
	if !ok {
		if program, err = exec.LookPath("rabbitmq-server"); err != nil {
			return nil, fmt.Errorf("installed RabbitMQ (rabbitmq-server) %w", ErrNotFound)
		}
	}
	s := &RabbitMQInstance{}
	if s.instance, err = newInstance(ctx, "rabbitmq", "rabbitmq", "nobody"); err != nil {
		return nil, fmt.Errorf("private RabbitMQ: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("private RabbitMQ: %w", err), s.Stop())
		}
	}()
	s.program = program
	s.Source = "started " + program
	for attempt := 1; ; attempt++ {
		if err = s.configure(ctx); err != nil {
			return nil, err
		}
		if err = s.Start(ctx); err == nil {
			return s, nil
		}
		if attempt == startAttempts || ctx.Err() != nil {
			return nil, err
		}
	}
}

// configure gives the broker new ports and writes its files.
func (s *RabbitMQInstance) configure(ctx context.Context) error {
	var ports [4]int
	for i := range ports {
		var err error
		if ports[i], err = freePort(ctx); err != nil {
			return err
		}
	}
	port, management, distribution, epmd := ports[0], strconv.Itoa(ports[1]), ports[2], strconv.Itoa(ports[3])
	password := randomHex(16)
	s.URL = fmt.Sprintf("amqp://bankfeed:%s@%s/", password, loopback(port))
	s.Management = "http://127.0.0.1:" + management
	conf, err := s.writeFile("rabbitmq.conf", fmt.Sprintf(`listeners.tcp.1 = %s
management.tcp.ip = 127.0.0.1
management.tcp.port = %s
# The plugin is there to make virtual hosts, not to spend time on statistics.
management_agent.disable_metrics_collector = true
default_user = bankfeed
default_pass = %s
log.console = true
log.file = false
`, loopback(port), management, password))
	if err != nil {
		return err
	}
	plugins, err := s.writeFile("enabled_plugins", "[rabbitmq_management].\n")
	if err != nil {
		return err
	}
	none, err := s.writeFile("rabbitmq-env.conf", "") // or else the system's settings would apply
	if err != nil {
		return err
	}
	s.env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "RABBITMQ_") || strings.HasPrefix(v, "ERL_") || strings.HasPrefix(v, "HOME=")
	}),
		"HOME="+s.dir, // keeps the Erlang cookie
		"RABBITMQ_CONF_ENV_FILE="+none,
		"RABBITMQ_CONFIG_FILE="+conf,
		"RABBITMQ_ENABLED_PLUGINS_FILE="+plugins,
		"RABBITMQ_NODENAME=bankfeed-"+randomHex(4)+"@localhost",
		"RABBITMQ_DIST_PORT="+strconv.Itoa(distribution),
		"RABBITMQ_MNESIA_BASE="+filepath.Join(s.dir, "mnesia"),
		"RABBITMQ_LOG_BASE="+s.dir,
		"RABBITMQ_PID_FILE="+filepath.Join(s.dir, "pid"),
		"ERL_EPMD_ADDRESS=127.0.0.1",
		"ERL_EPMD_PORT="+epmd, // a port mapper of its own, which can be ended with it
		"ERL_FLAGS=-kernel inet_dist_use_interface {127,0,0,1}",
	)
	s.orderly = terminate
	s.cleanup = `kill -KILL -"$1"; sleep 0.5; epmd -port ` + epmd + ` -kill >/dev/null 2>&1`
	s.stop = func() error {
		err := s.remove()
		// The port mapper is a daemon outside the broker's process group. It refuses as long as it believes the node alive, and
		// has nothing to end when the broker never came up: it is no failure of ours either way.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, _ = output(ctx, "epmd", "-port", epmd, "-kill")
		return err
	}
	s.answers = func(ctx context.Context) error {
		version, err := dialRabbitMQ(s.URL)
		if err != nil {
			return err
		}
		s.Version = version
		api := &managementAPI{base: s.Management, user: "bankfeed", password: password}
		s.admin = api
		return api.check(ctx)
	}
	s.released = func(ctx context.Context) error {
		for {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", loopback(port))
			if err != nil {
				return nil //nolint:nilerr // a refused connection is what we wait for
			}
			_ = c.Close()
			if err := pause(ctx); err != nil {
				return fmt.Errorf("the killed broker still listens: %w", err)
			}
		}
	}
	return nil
}

func dockerRabbitMQ(ctx context.Context) (_ *RabbitMQServer, err error) {
	password := randomHex(16)
	c, err := runContainer(ctx, rabbitImage, []string{"5672", managementPort}, "RABBITMQ_DEFAULT_USER=bankfeed", "RABBITMQ_DEFAULT_PASS="+password)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	address, err := c.address(ctx, "5672")
	if err != nil {
		return nil, err
	}
	management, err := c.address(ctx, managementPort)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, fmt.Errorf("no answer within %s", startPatience))
	defer cancel()
	for {
		s, err := openRabbitMQ(ctx, fmt.Sprintf("amqp://bankfeed:%s@%s/", password, address), "docker "+rabbitImage, "http://"+management)
		if err == nil {
			s.stop = c.stop
			return s, nil
		}
		if cause := pause(ctx); cause != nil {
			return nil, fmt.Errorf("%s in docker: %w: %w", rabbitImage, cause, err)
		}
	}
}
