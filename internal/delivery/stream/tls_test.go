package stream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// amqps puts TLS in front of a broker. The address names the authority that made
// the certificate; without it the certificate is unknown.
func amqps(t *testing.T, address string) (known, unknown string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	u, err := url.Parse(address)
	require.NoError(t, err)
	backend := u.Host
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", backend)
			if err != nil {
				_ = in.Close()
				continue
			}
			go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
			go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
		}
	}()
	u.Scheme, u.Host = "amqps", l.Addr().String()
	unknown = u.String()
	u.RawQuery = url.Values{"cacertfile": {file}}.Encode()
	return u.String(), unknown
}

func TestRelayOverTLS(t *testing.T) {
	address := backingtest.AMQPURL(t)
	known, unknown := amqps(t, address)
	got := consume(t, address, "finat", banqup.Transaction)
	l, st := &memoryLog{}, &memoryStore{}
	start(t, testConfig(t, st, l, bankfeed.Secret(known)))
	l.add(bankfeed.EventTransactionCreated, 4)
	eventually(t, "the message", func() bool { return len(got.positions()) == 1 })

	_, err := dial(t.Context(), bankfeed.Secret(unknown), "test")
	require.ErrorContains(t, err, "certificate")
	target, err := Target(bankfeed.Secret(known))
	require.NoError(t, err)
	require.NotContains(t, target, "cacertfile")
}
