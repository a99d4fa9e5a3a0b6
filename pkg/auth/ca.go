package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Lifetimes of a development CA and of what it issues, unless others are asked
// for: long enough for a project, short enough that nobody forgets that they end.
const (
	DefaultCAValidity   = 365 * 24 * time.Hour
	DefaultCertValidity = 90 * 24 * time.Hour
)

// backdate is how long before now a certificate begins, for hosts whose clocks
// are behind.
const backdate = 5 * time.Minute

const opCert = "make certificate"

// CA is a certificate authority for development and for small installations
// that have none. Its key lies in a file, unencrypted.
type CA struct {
	cert *x509.Certificate
	key  crypto.Signer
	pair Pair
	now  func() time.Time
}

// Pair is a certificate and its private key, both as PEM.
type Pair struct {
	Cert []byte // CERTIFICATE
	Key  []byte // PRIVATE KEY (PKCS #8)
}

// GenerateCA makes an authority with a fresh ECDSA key on P-256. name is its
// common name; validFor 0 means DefaultCAValidity; now nil means time.Now.
func GenerateCA(name string, validFor time.Duration, now func() time.Time) (*CA, error) {
	if now == nil {
		now = time.Now
	}
	if name == "" {
		name = "Sluice development CA"
	}
	if validFor <= 0 {
		validFor = DefaultCAValidity
	}
	t := now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             t.Add(-backdate),
		NotAfter:              t.Add(validFor),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // it issues leaves only
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, transfer.Errorf(transfer.Internal, opCert, "", "%w", err)
	}
	pair, cert, err := makePair(template, template, key, key)
	if err != nil {
		return nil, err
	}
	return &CA{cert: cert, key: key, pair: pair, now: now}, nil
}

// LoadCA reads an authority that Pair.Write wrote. An error is Invalid.
func LoadCA(certFile, keyFile string, now func() time.Time) (*CA, error) {
	opts := Options{Now: now}.filled()
	w, err := watchPair(certFile, keyFile, opts)
	if err != nil {
		return nil, err
	}
	pair := w.get()
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, transfer.Errorf(transfer.Invalid, "read certificate authority", certFile, "the certificate is not that of an authority")
	}
	content := w.state.Load().content
	return &CA{cert: pair.Leaf, key: key, pair: Pair{Cert: content[0], Key: content[1]}, now: opts.Now}, nil
}

// Pair returns the authority's own certificate and key.
func (ca *CA) Pair() Pair { return ca.pair }

// IssueServer makes a certificate for a server that is reached under hosts,
// names or IP addresses, at least one. validFor 0 means DefaultCertValidity; it
// ends with the authority at the latest.
func (ca *CA) IssueServer(hosts []string, validFor time.Duration) (Pair, error) {
	if len(hosts) == 0 {
		return Pair{}, transfer.Errorf(transfer.Invalid, opCert, "", "no host is given").WithHint("name each host or IP address under which clients reach the server")
	}
	t := ca.leaf(hosts[0], validFor, x509.ExtKeyUsageServerAuth)
	for _, h := range hosts {
		if ip, err := netip.ParseAddr(h); err == nil && ip.Zone() == "" {
			t.IPAddresses = append(t.IPAddresses, ip.Unmap().AsSlice())
			continue
		}
		if !hostName(h) {
			return Pair{}, transfer.Errorf(transfer.Invalid, opCert, "", "%q is neither a host name nor an IP address", h).WithHint("give the host without a port")
		}
		t.DNSNames = append(t.DNSNames, h)
	}
	return ca.issue(t)
}

// hostName reports a name of letters, digits, "-" and "." as in RFC 1123
// section 2.1, "_" as containers have it, or a leading "*." for one label.
func hostName(h string) bool {
	h = strings.TrimPrefix(h, "*.")
	if h == "" || len(h) > 253 {
		return false
	}
	for label := range strings.SplitSeq(h, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if !alnum(label[i]) && label[i] != '-' && label[i] != '_' {
				return false
			}
		}
	}
	return true
}

// IssueClient makes a certificate by which a client is p: its one URI name is
// p itself for a SPIFFE ID and "sluice:" and p otherwise.
func (ca *CA) IssueClient(p Principal, validFor time.Duration) (Pair, error) {
	if _, err := tokenPrincipal(string(p)); err != nil {
		return Pair{}, err
	}
	u := &url.URL{Scheme: uriScheme, Opaque: string(p)}
	if strings.HasPrefix(string(p), "spiffe://") {
		var err error
		if u, err = url.Parse(string(p)); err != nil || u.Host == "" {
			return Pair{}, transfer.Errorf(transfer.Invalid, opCert, "", "%q is not a SPIFFE ID", p)
		}
	}
	t := ca.leaf("", validFor, x509.ExtKeyUsageClientAuth)
	t.Subject.CommonName = commonName(string(p))
	t.URIs = []*url.URL{u}
	return ca.issue(t)
}

// commonName cuts to the 64 characters of RFC 5280 (ub-common-name); the field
// is for people, names are compared by the others.
func commonName(s string) string {
	return s[:min(len(s), 64)]
}

func (ca *CA) leaf(name string, validFor time.Duration, usage x509.ExtKeyUsage) *x509.Certificate {
	if validFor <= 0 {
		validFor = DefaultCertValidity
	}
	now := ca.now()
	end := now.Add(validFor)
	if end.After(ca.cert.NotAfter) {
		end = ca.cert.NotAfter
	}
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName(name)},
		NotBefore:             now.Add(-backdate),
		NotAfter:              end,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{usage},
	}
}

func (ca *CA) issue(template *x509.Certificate) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, transfer.Errorf(transfer.Internal, opCert, "", "%w", err)
	}
	pair, _, err := makePair(template, ca.cert, key, ca.key)
	return pair, err
}

// makePair signs a certificate; crypto/x509 chooses a random serial.
func makePair(template, parent *x509.Certificate, key, signer crypto.Signer) (Pair, *x509.Certificate, error) {
	fail := func(err error) (Pair, *x509.Certificate, error) {
		return Pair{}, nil, transfer.Errorf(transfer.Invalid, opCert, "", "%w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return fail(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fail(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fail(err)
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}, cert, nil
}

// Write puts the key (mode 0600) and the certificate (0644) into files, each
// whole and durable. With replace false both must be new, or the error is
// Exists and nothing was written. The key goes first: a service that loads
// between the two sees a pair that does not match, and keeps what it had.
func (p Pair) Write(certFile, keyFile string, replace bool) error {
	if !replace {
		if _, err := os.Lstat(certFile); err == nil {
			return transfer.Errorf(transfer.Exists, "write", certFile, "the file exists").WithHint("choose another name, or ask for it to be replaced")
		}
	}
	if err := writeFile(keyFile, p.Key, secretMode, replace); err != nil {
		return err
	}
	err := writeFile(certFile, p.Cert, publicMode, replace)
	if err != nil && !replace {
		_ = os.Remove(keyFile)
	}
	return err
}
