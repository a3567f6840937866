//! The closed table of units, and the exact factors between those that measure the same quantity.

use super::compiled::Conversion;

/// What a unit that is not in the table starts with: kept as text, never converted.
pub(super) const CUSTOM: &str = "custom:";

const CUSTOM_BYTES_MAX: usize = 64;

/// `base = (value - offset_hundredths / 100) * multiply / divide`, whole numbers throughout so that factors stay exact.
struct Unit {
    symbol: &'static str,
    quantity: &'static str,
    multiply: u64,
    divide: u64,
    offset_hundredths: i64,
}

const fn unit(quantity: &'static str, symbol: &'static str, multiply: u64, divide: u64) -> Unit {
    Unit { symbol, quantity, multiply, divide, offset_hundredths: 0 }
}

/// Grouped by quantity. SI Brochure, 9th edition; psi from the pound-force 4.4482216152605 N and the inch 25.4 mm.
const UNITS: &[Unit] = &[
    unit("ratio", "1", 1, 1),
    unit("ratio", "%", 1, 100),
    unit("ratio", "ppm", 1, 1_000_000),
    unit("current", "A", 1, 1),
    unit("current", "mA", 1, 1_000),
    unit("current", "kA", 1_000, 1),
    unit("voltage", "V", 1, 1),
    unit("voltage", "mV", 1, 1_000),
    unit("voltage", "kV", 1_000, 1),
    unit("resistance", "ohm", 1, 1),
    unit("resistance", "mohm", 1, 1_000),
    unit("resistance", "kohm", 1_000, 1),
    Unit { symbol: "°C", quantity: "temperature", multiply: 1, divide: 1, offset_hundredths: 0 },
    Unit { symbol: "°F", quantity: "temperature", multiply: 5, divide: 9, offset_hundredths: 3_200 },
    Unit { symbol: "K", quantity: "temperature", multiply: 1, divide: 1, offset_hundredths: 27_315 },
    unit("pressure", "Pa", 1, 1),
    unit("pressure", "mbar", 100, 1),
    unit("pressure", "kPa", 1_000, 1),
    unit("pressure", "bar", 100_000, 1),
    unit("pressure", "MPa", 1_000_000, 1),
    unit("pressure", "psi", 8_896_443_230_521, 1_290_320_000),
    unit("mass", "g", 1, 1),
    unit("mass", "kg", 1_000, 1),
    unit("mass", "t", 1_000_000, 1),
    unit("mass flow", "kg/h", 1, 1),
    unit("mass flow", "kg/min", 60, 1),
    unit("mass flow", "kg/s", 3_600, 1),
    unit("mass flow", "t/h", 1_000, 1),
    unit("length", "µm", 1, 1),
    unit("length", "mm", 1_000, 1),
    unit("length", "cm", 10_000, 1),
    unit("length", "m", 1_000_000, 1),
    unit("speed", "mm/s", 1, 1),
    unit("speed", "m/min", 1_000, 60),
    unit("speed", "m/s", 1_000, 1),
    unit("acceleration", "mm/s2", 1, 1),
    unit("acceleration", "m/s2", 1_000, 1),
    unit("volume", "L", 1, 1),
    unit("volume", "m3", 1_000, 1),
    unit("volume flow", "L/h", 1, 1),
    unit("volume flow", "L/min", 60, 1),
    unit("volume flow", "L/s", 3_600, 1),
    unit("volume flow", "m3/h", 1_000, 1),
    unit("density", "kg/m3", 1, 1),
    unit("density", "g/cm3", 1_000, 1),
    unit("force", "N", 1, 1),
    unit("force", "kN", 1_000, 1),
    unit("torque", "N.m", 1, 1),
    unit("torque", "kN.m", 1_000, 1),
    unit("power", "W", 1, 1),
    unit("power", "kW", 1_000, 1),
    unit("power", "MW", 1_000_000, 1),
    unit("apparent power", "kVA", 1, 1),
    unit("apparent power", "MVA", 1_000, 1),
    unit("reactive power", "kvar", 1, 1),
    unit("reactive power", "Mvar", 1_000, 1),
    unit("energy", "kJ", 1, 1),
    unit("energy", "MJ", 1_000, 1),
    unit("energy", "GJ", 1_000_000, 1),
    unit("energy", "kWh", 3_600, 1),
    unit("energy", "MWh", 3_600_000, 1),
    unit("frequency", "rpm", 1, 1),
    unit("frequency", "Hz", 60, 1),
    unit("frequency", "kHz", 60_000, 1),
    unit("duration", "ms", 1, 1),
    unit("duration", "s", 1_000, 1),
    unit("duration", "min", 60_000, 1),
    unit("duration", "h", 3_600_000, 1),
    unit("angle", "deg", 1, 1),
    unit("acidity", "pH", 1, 1),
    unit("sound level", "dB", 1, 1),
];

pub(super) const SAME: Conversion = Conversion { subtract: 0.0, multiply: 1.0, divide: 1.0 };

fn find(symbol: &str) -> Option<&'static Unit> {
    UNITS.iter().find(|unit| unit.symbol == symbol)
}

pub(super) fn symbols() -> impl Iterator<Item = &'static str> {
    UNITS.iter().map(|unit| unit.symbol)
}

/// Whether a text is a unit, else what is allowed.
pub(super) fn check(symbol: &str) -> Result<(), String> {
    let custom = symbol.strip_prefix(CUSTOM).is_some_and(|own| {
        !own.trim().is_empty() && symbol.len() <= CUSTOM_BYTES_MAX && !own.contains(char::is_control)
    });
    if custom || find(symbol).is_some() {
        return Ok(());
    }
    let listed = symbols().collect::<Vec<_>>().join(" ");
    let guess = super::problem::did_you_mean(symbol, symbols());
    Err(format!("not a unit{guess}; allowed: {listed}, or \"{CUSTOM}...\" for one that is never converted"))
}

/// How a value sent in one unit is stored in another; an error names the units that can be converted.
pub(super) fn conversion(sent_in: &str, stored: &str) -> Result<Conversion, String> {
    if sent_in == stored {
        return Ok(SAME);
    }
    let (Some(from), Some(to)) = (find(sent_in), find(stored)) else {
        return Err(format!(
            "cannot be converted to {stored:?}; allowed: both units from the table, neither \"{CUSTOM}...\""
        ));
    };
    if from.quantity != to.quantity {
        let same = UNITS.iter().filter(|unit| unit.quantity == to.quantity);
        let listed = same.map(|unit| unit.symbol).collect::<Vec<_>>().join(" ");
        return Err(format!("a {} cannot be converted to {stored:?}; allowed: {listed}", from.quantity));
    }
    let (multiply, divide) =
        reduced(u128::from(from.multiply) * u128::from(to.divide), u128::from(from.divide) * u128::from(to.multiply));
    // stored = (sent - subtract) * multiply / divide, with subtract = from.offset - to.offset * divide / multiply.
    let hundredths =
        i128::from(from.offset_hundredths) * multiply as i128 - i128::from(to.offset_hundredths) * divide as i128;
    let subtract = hundredths as f64 / (100 * multiply) as f64;
    Ok(Conversion { subtract, multiply: multiply as f64, divide: divide as f64 })
}

fn reduced(multiply: u128, divide: u128) -> (u128, u128) {
    let (mut a, mut b) = (multiply, divide);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    (multiply / a, divide / a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(value: f64, sent_in: &str, stored: &str) -> f64 {
        let Conversion { subtract, multiply, divide } = conversion(sent_in, stored).unwrap();
        (value - subtract) * multiply / divide
    }

    #[test]
    fn decimal_factors_are_exact() {
        assert_eq!(conversion("A", "kA").unwrap(), Conversion { subtract: 0.0, multiply: 1.0, divide: 1000.0 });
        assert_eq!(conversion("°F", "°C").unwrap(), Conversion { subtract: 32.0, multiply: 5.0, divide: 9.0 });
        assert_eq!(conversion("K", "°C").unwrap(), Conversion { subtract: 273.15, multiply: 1.0, divide: 1.0 });
        assert_eq!(conversion("°C", "K").unwrap().subtract, -273.15);
        assert_eq!(conversion("m3/h", "L/min").unwrap(), Conversion { subtract: 0.0, multiply: 50.0, divide: 3.0 });
    }

    #[test]
    fn known_values_convert() {
        let cases = [
            (267_344.0, "A", "kA", 267.344),
            (212.0, "°F", "°C", 100.0),
            (100.0, "°C", "°F", 212.0),
            (0.0, "K", "°F", -459.67),
            (1.0, "psi", "Pa", 6_894.757_293_168_361),
            (14.503_773_773_020_923, "psi", "bar", 1.0),
            (1_800.0, "rpm", "Hz", 30.0),
            (12.5, "%", "1", 0.125),
            (1.0, "MWh", "GJ", 3.6),
            (60.0, "L/min", "m3/h", 3.6),
        ];
        for (value, sent_in, stored, expected) in cases {
            let found = convert(value, sent_in, stored);
            assert!((found - expected).abs() <= 1e-12 * expected.abs(), "{value} {sent_in} = {found} {stored}");
        }
    }

    #[test]
    fn every_factor_is_a_whole_number_that_a_float_holds() {
        for from in UNITS {
            for to in UNITS.iter().filter(|to| to.quantity == from.quantity) {
                let (multiply, divide) = reduced(
                    u128::from(from.multiply) * u128::from(to.divide),
                    u128::from(from.divide) * u128::from(to.multiply),
                );
                assert!(multiply.max(divide) <= 1 << 53, "{} to {}", from.symbol, to.symbol);
            }
        }
    }

    #[test]
    fn symbols_are_unique_and_a_bad_one_is_told_the_allowed() {
        let mut all: Vec<_> = symbols().collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), UNITS.len());
        assert!(check("custom:Sm3").is_ok());
        for bad in ["", "Kv", "custom:", "custom: ", "custom:a\nb", "°c"] {
            assert!(check(bad).unwrap_err().contains("allowed: 1 %"), "{bad}");
        }
        assert!(check("°c").unwrap_err().contains("did you mean \"°C\"?"));
        assert!(conversion("V", "kA").unwrap_err().contains("allowed: A mA kA"));
        assert!(conversion("custom:x", "kA").is_err());
    }
}
