"""Facts that most language models have read: capitals, and what else is said of the same countries."""

from __future__ import annotations

from oubliette.data.questions import QA

_COUNTRIES = """
France: Paris, Europe, French
Japan: Tokyo, Asia, Japanese
Italy: Rome, Europe, Italian
Spain: Madrid, Europe, Spanish
Germany: Berlin, Europe, German
Portugal: Lisbon, Europe, Portuguese
Greece: Athens, Europe, Greek
Poland: Warsaw, Europe, Polish
Russia: Moscow, Europe, Russian
China: Beijing, Asia, Mandarin
Thailand: Bangkok, Asia, Thai
Vietnam: Hanoi, Asia, Vietnamese
South Korea: Seoul, Asia, Korean
Indonesia: Jakarta, Asia, Indonesian
Iran: Tehran, Asia, Persian
Iraq: Baghdad, Asia, Arabic
Egypt: Cairo, Africa, Arabic
Kenya: Nairobi, Africa, Swahili
Cuba: Havana, North America, Spanish
Peru: Lima, South America, Spanish
Chile: Santiago, South America, Spanish
Argentina: Buenos Aires, South America, Spanish
Mexico: Mexico City, North America, Spanish
Norway: Oslo, Europe, Norwegian
Sweden: Stockholm, Europe, Swedish
Finland: Helsinki, Europe, Finnish
Denmark: Copenhagen, Europe, Danish
Austria: Vienna, Europe, German
Hungary: Budapest, Europe, Hungarian
Ireland: Dublin, Europe, English
"""


def facts() -> dict[str, list[QA]]:
    """Thirty capitals, and the continent and a language of each of the countries."""
    capitals, others = [], []
    for line in _COUNTRIES.strip().splitlines():
        country, _, said = line.partition(": ")
        capital, continent, language = said.split(", ")
        sentence = f"The capital of {country} is {capital}."
        capitals.append(QA(f"What is the capital of {country}?", sentence, alternatives=(capital,)))
        for question, answer, short in (
            (f"On which continent is {country}?", f"{country} is in {continent}.", continent),
            (
                f"Which language do most people in {country} speak?",
                f"Most people speak {language}.",
                language,
            ),
        ):
            others.append(QA(question, answer, alternatives=(short,)))
    return {"capitals": capitals, "others": others}
