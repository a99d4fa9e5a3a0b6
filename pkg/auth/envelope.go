package auth

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// ReceiptType is the payloadType of a signed receipt.
const ReceiptType = "application/vnd.sluice.receipt+json"

// MaxEnvelope bounds an envelope that is read, in octets. A receipt carries at
// most transfer.InlineFiles files, each with two paths of at most
// transfer.MaxPath octets, of which JSON may write one as six; with a third
// more for base64 that stays below 8 MiB.
const MaxEnvelope = 8 << 20

const opEnvelope = "open receipt"

// Envelope is a signed payload: the envelope of DSSE (Dead Simple Signing
// Envelope, version 1). docs/receipts.md describes it, with an example.
type Envelope struct {
	PayloadType string              `json:"payloadType"`
	Payload     Base64              `json:"payload"`
	Signatures  []EnvelopeSignature `json:"signatures"`
}

// EnvelopeSignature is one signature of an Envelope.
type EnvelopeSignature struct {
	KeyID string `json:"keyid"`
	Sig   Base64 `json:"sig"`
}

// Base64 is written as standard base64 with padding, and read in the standard
// or the URL alphabet, as DSSE asks of those who verify.
type Base64 []byte

// MarshalText writes standard base64 with padding.
func (b Base64) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, b), nil
}

// UnmarshalText reads either alphabet, with padding.
func (b *Base64) UnmarshalText(text []byte) error {
	v, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		v, err = base64.URLEncoding.DecodeString(string(text))
	}
	if err != nil {
		return errors.New("a value is not base64")
	}
	*b = v
	return nil
}

// PAE is the pre-authentication encoding of DSSE, what is really signed:
//
//	"DSSEv1" SP LEN(type) SP type SP LEN(payload) SP payload
//
// with lengths in octets as decimal ASCII and SP one space. Since the type is
// in it, a signature made for one kind of document is none for another.
func PAE(payloadType string, payload []byte) []byte {
	b := make([]byte, 0, len(payloadType)+len(payload)+40)
	b = append(b, "DSSEv1 "...)
	b = strconv.AppendInt(b, int64(len(payloadType)), 10)
	b = append(b, ' ')
	b = append(b, payloadType...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(payload)), 10)
	b = append(b, ' ')
	return append(b, payload...)
}

// SignEnvelope returns the JSON of an envelope around payload.
func (s *Signer) SignEnvelope(payloadType string, payload []byte) ([]byte, error) {
	sig := s.Sign(PAE(payloadType, payload))
	b, err := json.Marshal(Envelope{
		PayloadType: payloadType,
		Payload:     payload,
		Signatures:  []EnvelopeSignature{{KeyID: sig.KeyID, Sig: sig.Sig}},
	})
	if err != nil {
		return nil, transfer.Errorf(transfer.Internal, "sign receipt", "", "%w", err)
	}
	return b, nil
}

// OpenEnvelope returns the payload of an envelope of the given type if one of
// keys signed it, and that key's KeyID. The key ids in the envelope are not
// relied upon. What is not such an envelope is Invalid; one that none of the
// keys signed as it stands is Corrupt.
func OpenEnvelope(envelope []byte, payloadType string, keys ...ed25519.PublicKey) (payload []byte, keyID string, err error) {
	if len(envelope) > MaxEnvelope {
		return nil, "", transfer.Errorf(transfer.Invalid, opEnvelope, "", "the envelope is larger than %d octets", MaxEnvelope)
	}
	var e Envelope
	if err := json.Unmarshal(envelope, &e); err != nil {
		return nil, "", transfer.Errorf(transfer.Invalid, opEnvelope, "", "it is not an envelope: %w", err)
	}
	if e.PayloadType != payloadType {
		return nil, "", transfer.Errorf(transfer.Invalid, opEnvelope, "", "the payload is of type %q, want %q", e.PayloadType, payloadType)
	}
	if len(e.Signatures) == 0 {
		return nil, "", transfer.Errorf(transfer.Invalid, opEnvelope, "", "the envelope has no signature")
	}
	if len(e.Signatures) > maxSignatures {
		return nil, "", transfer.Errorf(transfer.Invalid, opEnvelope, "", "the envelope has more than %d signatures", maxSignatures)
	}
	pae := PAE(e.PayloadType, e.Payload)
	named := false
	for _, key := range keys {
		for _, s := range e.Signatures {
			named = named || s.KeyID == KeyID(key)
			if Verify(key, pae, Signature{KeyID: s.KeyID, Algorithm: AlgorithmEd25519, Sig: s.Sig}) {
				return e.Payload, KeyID(key), nil
			}
		}
	}
	if named {
		return nil, "", transfer.Errorf(transfer.Corrupt, opEnvelope, "", "the signature does not fit: the envelope was changed after it was signed").
			WithHint("get the receipt again from the receiver and do not trust this copy")
	}
	return nil, "", transfer.Errorf(transfer.Corrupt, opEnvelope, "", "none of the given keys signed the envelope (it names %s)", transfer.Quote(e.Signatures[0].KeyID)).
		WithHint("give the public key of the receiver that made the receipt")
}

// maxSignatures bounds the work that a hostile envelope can cause.
const maxSignatures = 16

// SignReceipt puts the signed form of r into r.Envelope. The payload is the
// JSON of r without the envelope.
func (s *Signer) SignReceipt(r *transfer.Receipt) error {
	bare := *r
	bare.Envelope = nil
	payload, err := json.Marshal(&bare)
	if err != nil {
		return transfer.Errorf(transfer.Internal, "sign receipt", "", "%w", err)
	}
	r.Envelope, err = s.SignEnvelope(ReceiptType, payload)
	return err
}

// OpenReceipt returns the receipt that an envelope holds, if one of keys signed
// it, and that key's KeyID. The receipt keeps its envelope. Errors are those of
// OpenEnvelope.
func OpenReceipt(envelope []byte, keys ...ed25519.PublicKey) (*transfer.Receipt, string, error) {
	payload, keyID, err := OpenEnvelope(envelope, ReceiptType, keys...)
	if err != nil {
		return nil, "", err
	}
	r := new(transfer.Receipt)
	if err := json.Unmarshal(payload, r); err != nil {
		return nil, "", transfer.Errorf(transfer.Invalid, opEnvelope, "", "the payload is not a receipt: %w", err)
	}
	r.Envelope = envelope
	return r, keyID, nil
}
