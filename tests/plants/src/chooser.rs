
/// Whether the planted bug of this name is active in this process.
#[doc(hidden)]
pub fn planted(name: &str) -> bool {
    static ACTIVE: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    static REACHED: std::sync::Once = std::sync::Once::new();
    if ACTIVE.get_or_init(|| std::env::var("FORELOG_PLANT").ok()).as_deref() != Some(name) {
        return false;
    }
    REACHED.call_once(|| {
        if let Some(path) = std::env::var_os("FORELOG_PLANT_REACHED") {
            // Without the file the campaign counts the plant as never reached, which is a failure, too.
            let _ = std::fs::write(path, name);
        }
    });
    true
}
