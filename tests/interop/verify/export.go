package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Written from docs/audit-format.md alone.
const (
	eventDomain   = "rushline/audit-event/v1\x00"
	genesisDomain = "rushline/audit-genesis/v1\x00"
)

// The fields of an event that its chain is made of.
type event struct {
	Chain    *string `json:"chain"`
	OrderID  *string `json:"order_id"`
	Position int64   `json:"position"`
	PrevHash string  `json:"prev_hash"`
	Hash     string  `json:"hash"`
}

func (e event) chain() (string, error) {
	if e.Chain != nil && *e.Chain != "" {
		return *e.Chain, nil
	}
	if e.OrderID != nil && *e.OrderID != "" {
		return *e.OrderID, nil
	}
	return "", errors.New("names no chain")
}

type head struct {
	position int64
	hash     string
}

// export checks each line of an export: its own hash, that it continues its chain from the first position on, and its proof.
func export(vkey, exportPath, proofsPath string) error {
	lines, err := os.ReadFile(exportPath)
	if err != nil {
		return err
	}
	texts, err := os.ReadFile(proofsPath)
	if err != nil {
		return err
	}
	proofs := strings.Split(string(texts), header+"\n")[1:]
	genesis := sha256.Sum256([]byte(genesisDomain))
	heads := map[string]head{}
	rows := bytes.Split(bytes.TrimSuffix(lines, []byte("\n")), []byte("\n"))
	if len(rows) != len(proofs) {
		return fmt.Errorf("%d events and %d proofs", len(rows), len(proofs))
	}
	for number, line := range rows {
		name, next, err := link(line)
		if err != nil {
			return fmt.Errorf("line %d: %w", number+1, err)
		}
		before, known := heads[name]
		if !known {
			before = head{0, hex.EncodeToString(genesis[:])}
		}
		if next.Position != before.position+1 {
			return fmt.Errorf("line %d: %s has position %d after %d", number+1, name, next.Position, before.position)
		}
		if next.PrevHash != before.hash {
			return fmt.Errorf("line %d: %s at position %d continues another event", number+1, name, next.Position)
		}
		heads[name] = head{next.Position, next.Hash}
		if _, _, err := checkProof(vkey, []byte(header+"\n"+proofs[number]), line); err != nil {
			return fmt.Errorf("line %d: %w", number+1, err)
		}
	}
	fmt.Printf("%d events, %d chains\n", len(rows), len(heads))
	return nil
}

// link reads an event, and compares the hash that it claims with the one that its other bytes have.
func link(line []byte) (string, event, error) {
	var found event
	if err := json.Unmarshal(line, &found); err != nil {
		return "", found, err
	}
	field := []byte(`"hash":"` + found.Hash + `",`)
	at := bytes.LastIndex(line, field)
	if at < 0 {
		return "", found, errors.New("has no hash where it belongs")
	}
	rest := append(append([]byte(eventDomain), line[:at]...), line[at+len(field):]...)
	digest := sha256.Sum256(rest)
	if hex.EncodeToString(digest[:]) != found.Hash {
		return "", found, errors.New("was edited: its hash is not the hash of its contents")
	}
	name, err := found.chain()
	return name, found, err
}
