// Program tlogcheck verifies a transparency log of AlumiCatalyst with code that is not ours: Go's own checksum database
// (golang.org/x/mod/sumdb) and the libraries of transparency.dev. It shares no line with the Python that writes the log.
//
//	tlogcheck -vkey FILE [-log DIR] [-proofs DIR] [-consistency FILE]
//
// It ends with 1 and one line that names the first difference, with 2 if it is called wrongly.
package main

import (
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"
)

func main() {
	vkey := flag.String("vkey", "", "file of the log's verifier key")
	folder := flag.String("log", "", "folder of a log to verify in full")
	proofs := flag.String("proofs", "", "folder of .tlog-proof files to verify")
	growth := flag.String("consistency", "", "JSON file of consistency proofs to verify")
	flag.Parse()
	if *vkey == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*vkey, *folder, *proofs, *growth); err != nil {
		fmt.Fprintln(os.Stderr, "tlogcheck:", err)
		os.Exit(1)
	}
}

func run(vkey, folder, proofs, growth string) error {
	text, err := os.ReadFile(vkey)
	if err != nil {
		return err
	}
	key, err := note.NewVerifier(strings.TrimSuffix(string(text), "\n"))
	if err != nil {
		return fmt.Errorf("%s: %w", vkey, err)
	}
	if folder != "" {
		if err := checkLog(folder, key); err != nil {
			return err
		}
	}
	if proofs != "" {
		if err := checkProofs(proofs, key); err != nil {
			return err
		}
	}
	if growth != "" {
		return checkGrowth(growth)
	}
	return nil
}

// openCheckpoint verifies a signed checkpoint that the log's key has signed, and nobody else. A note may be spelled in
// more than one way for these libraries, so the one canonical spelling is asked for.
func openCheckpoint(raw []byte, key note.Verifier) (*log.Checkpoint, error) {
	checkpoint, rest, signed, err := log.ParseCheckpoint(raw, key.Name(), key)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("the checkpoint has extension lines: %q", rest)
	}
	if len(signed.Sigs) != 1 || len(signed.UnverifiedSigs) > 0 {
		return nil, errors.New("the checkpoint has other signatures than the log's own")
	}
	signature, err := base64.StdEncoding.DecodeString(signed.Sigs[0].Base64)
	if err != nil {
		return nil, err
	}
	again := fmt.Sprintf("%s\n— %s %s\n", signed.Text, key.Name(), base64.StdEncoding.EncodeToString(signature))
	if again != string(raw) || string(checkpoint.Marshal()) != signed.Text {
		return nil, errors.New("the checkpoint is not written in its canonical form")
	}
	return checkpoint, nil
}
