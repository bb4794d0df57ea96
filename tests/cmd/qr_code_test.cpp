#include "qr_code.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>

#include "fscryptctl/base/error.h"

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

TEST_CASE("a QR code is a block of lines, on a terminal as many as on paper", "[qr]") {
  require_qr_codes();
  const std::string paper = code_of("RECOVERY-KEY");
  const auto lines = std::count(paper.begin(), paper.end(), '\n');
  CHECK(lines > 10);
  CHECK(paper.starts_with("# "));
  CHECK(count(paper, "\n# ") == static_cast<std::size_t>(lines - 1));
  // White and black change places, nothing else.
  CHECK(count(code_of("RECOVERY-KEY", QrStyle::terminal), "\x1b[0m\n") ==
        static_cast<std::size_t>(lines));
}

TEST_CASE("a QR code depends on its text alone", "[qr]") {
  CHECK(code_of("RECOVERY-KEY") == code_of("RECOVERY-KEY"));
  CHECK(code_of("RECOVERY-KEY") != code_of("RECOVERY-KEZ"));
}

TEST_CASE("what is too long for a QR code is refused", "[qr]") {
  CHECK_NOTHROW(code_of(std::string(255, 'A')));
  try {
    code_of(std::string(256, 'A'));
    FAIL("a code was made");
  } catch (const Error& error) {
    CHECK(error.code() == Errc::usage);
  }
}
