// Command openpubkey logs in as opkssh does: with OpenPubkey's own client, at any provider, and puts the PK token
// into a certificate that the fresh key itself signs.
//
// opkssh is a program around this library that cannot be had as a Go module here, so the certificate, which is opkssh's part,
// is put together by what opkssh documents and does: the key id is the email, there are no principals and no end,
// and the compact token is the extension openpubkey-pkt.
//
// It asks for one page to be opened, as a browser would, and writes FILE and FILE-cert.pub.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"log"
	"os"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/openpubkey/openpubkey/client"
	"github.com/openpubkey/openpubkey/pktoken"
	"github.com/openpubkey/openpubkey/providers"
	"github.com/openpubkey/openpubkey/util"
	"golang.org/x/crypto/ssh"
)

func main() {
	issuer := flag.String("issuer", "", "the provider")
	clientID := flag.String("client-id", "", "the client at the provider")
	redirect := flag.String("redirect", "", "where the provider sends the browser: http://localhost:PORT/login-callback")
	file := flag.String("file", "", "the key's file")
	flag.Parse()
	if err := login(*issuer, *clientID, *redirect, *file); err != nil {
		log.Fatal(err)
	}
}

func login(issuer, clientID, redirect, file string) error {
	options := providers.GetDefaultStandardOpOptions(issuer, clientID)
	options.RedirectURIs = []string{redirect}
	options.OpenBrowser = false
	signer, err := util.GenKeyPair(jwa.ES256)
	if err != nil {
		return err
	}
	opk, err := client.New(providers.NewStandardOpWithOptions(options), client.WithSigner(signer, jwa.ES256))
	if err != nil {
		return err
	}
	token, err := opk.Auth(context.Background())
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(signer, "openpubkey")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		return err
	}
	key, err := ssh.NewSignerFromSigner(signer)
	if err != nil {
		return err
	}
	line, err := certificate(token, key)
	if err != nil {
		return err
	}
	return os.WriteFile(file+"-cert.pub", line, 0o644)
}

func certificate(token *pktoken.PKToken, key ssh.Signer) ([]byte, error) {
	var claims struct {
		Email string `json:"email"`
	}
	if err := json.Unmarshal(token.Payload, &claims); err != nil {
		return nil, err
	}
	compact, err := token.Compact()
	if err != nil {
		return nil, err
	}
	certificate := ssh.Certificate{
		Key:         key.PublicKey(),
		CertType:    ssh.UserCert,
		KeyId:       claims.Email,
		ValidBefore: ssh.CertTimeInfinity,
		Permissions: ssh.Permissions{Extensions: map[string]string{
			"permit-X11-forwarding":   "",
			"permit-agent-forwarding": "",
			"permit-port-forwarding":  "",
			"permit-pty":              "",
			"permit-user-rc":          "",
			"openpubkey-pkt":          string(compact),
		}},
	}
	if err := certificate.SignCert(rand.Reader, key); err != nil {
		return nil, fmt.Errorf("sign the certificate: %w", err)
	}
	return ssh.MarshalAuthorizedKey(&certificate), nil
}
