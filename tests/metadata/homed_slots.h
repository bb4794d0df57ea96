#pragma once

#include <string>

/// The documented example: key 00 to 3f, salt 40 to 7f, password "fsfsfs1234", IV 00 to 0b.
namespace fscryptctl::test {

inline const std::string kHomedSalt =
    "QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl9gYWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+fw==";
inline const std::string kHomedLegacySlot =
    kHomedSalt +
    ":wngG2GIyhcGUPhW1iNJswgRCCO2tD3MwQGTyElG3HhWz4tlVMfaWjYqfzaikftVFtibOqTs+m4eKOUCuu+bZMg==";
inline const std::string kHomedSlot =
    "$v2:600000:" + kHomedSalt +
    ":AAECAwQFBgcICQoL:KP2T/mD5mb6lRkljjA4lIRzUZWIa1Prh9kG0W/"
    "a5bhKsMRRrFL6AWOgIjhpxMby2saWC4dLu01vR575iPyyTsw==:G3DB6vmlxkd+ZO2DIbBTLg==";

}  // namespace fscryptctl::test
