#include "qr_code.h"

#include <catch2/catch.hpp>
#include <stdexcept>
#include <string>

using namespace fscryptctl;

namespace {

// That real readers understand it is tested in tests/system/test_recovery.py.

std::string code_of(const std::string& text, QrStyle style = QrStyle::paper) {
  const SecretBytes code = qr_code(as_bytes(text), style);
  return {code.view().begin(), code.view().end()};
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++found;
  }
  return found;
}

}  // namespace

TEST_CASE("a QR code has one size", "[qr]") {
  for (const std::string& text : {std::string("A"), std::string(kMaxQrCodeText, 'Z')}) {
    const std::string paper = code_of(text);
    CHECK(count(paper, "\n") == 21);
    CHECK(count(paper, "# ") >= 21);
    // White and black change places, nothing else.
    CHECK(count(code_of(text, QrStyle::terminal), "\x1b[0m\n") == 21);
  }
}

TEST_CASE("a QR code depends on its text alone", "[qr]") {
  CHECK(code_of("RECOVERY-KEY") == code_of("RECOVERY-KEY"));
  CHECK(code_of("RECOVERY-KEY") != code_of("RECOVERY-KEZ"));
}

TEST_CASE("what does not fit into the QR code is refused", "[qr]") {
  CHECK_THROWS_AS(code_of("lower case"), std::invalid_argument);
  CHECK_THROWS_AS(code_of(std::string(kMaxQrCodeText + 1, 'A')), std::invalid_argument);
}
