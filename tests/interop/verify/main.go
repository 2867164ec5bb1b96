// Verifies what Rushline's audit log hands out with the packages behind Go's own checksum database, and nothing of Rushline's.
//
//	verify proof VKEY PROOF LEAF             a tlog-proof: this leaf (a line of an export, without its newline) is in the log
//	verify consistency VKEY OLD NEW PROOF    two checkpoints: the newer tree has the older one unaltered at its beginning;
//	                                         PROOF has a hash in base64 on each line
//	verify note VKEY NOTE                    prints the text that the key has signed
//	verify sign SKEY TEXT                    prints the text as a note
//	verify key NAME                          prints a new private key and its public one
//	verify batch                             answers many proofs from standard input: see batch.go
//	verify export VKEY EXPORT PROOFS         an export of an order: every hash, every link, every proof: see export.go
//	verify watch VKEY URL [TOKEN [OLD]]      reads a log over HTTP as tlog-tiles: see watch.go
//	verify tiles ENTRIES FOLDER              compares a folder of tiles with Go's own: see tiles.go
//
// It exits with 1 where something does not hold, and says why on standard error.
package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/note"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "refused:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("say what: proof, consistency, note, sign, key, batch, tiles, export or watch")
	}
	switch command, rest := args[0], args[1:]; {
	case command == "proof" && len(rest) == 3:
		return proof(rest[0], rest[1], rest[2])
	case command == "consistency" && len(rest) == 4:
		return consistency(rest[0], rest[1], rest[2], rest[3])
	case command == "note" && len(rest) == 2:
		return openNote(rest[0], rest[1])
	case command == "sign" && len(rest) == 2:
		return signNote(rest[0], rest[1])
	case command == "key" && len(rest) == 1:
		return newKey(rest[0])
	case command == "batch" && len(rest) == 0:
		return batch()
	case command == "export" && len(rest) == 3:
		return export(rest[0], rest[1], rest[2])
	case command == "watch" && len(rest) >= 2 && len(rest) <= 4:
		return watch(rest[0], rest[1], rest[2:])
	case command == "tiles" && len(rest) == 2:
		return tiles(rest[0], rest[1])
	default:
		return fmt.Errorf("there is no %s with %d arguments", command, len(rest))
	}
}

func openNote(vkey, path string) error {
	message, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	opened, err := open(vkey, message)
	if err != nil {
		return err
	}
	fmt.Print(opened.Text)
	return nil
}

func open(vkey string, message []byte) (*note.Note, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	return note.Open(message, note.VerifierList(verifier))
}

func signNote(skey, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return err
	}
	signed, err := note.Sign(&note.Note{Text: string(text)}, signer)
	if err != nil {
		return err
	}
	fmt.Print(string(signed))
	return nil
}

func newKey(name string) error {
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return err
	}
	fmt.Printf("%s\n%s\n", skey, vkey)
	return nil
}
