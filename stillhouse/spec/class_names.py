"""The class names of the built-in data sets, in the order of their labels."""

from __future__ import annotations

import string


def _spaced(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _lined(text: str) -> tuple[str, ...]:
    return tuple(" ".join(name.split()) for name in text.split(","))


DIGITS = tuple(string.digits)
LETTERS = tuple(string.ascii_lowercase)
ALPHANUMERIC = (*string.digits, *string.ascii_uppercase, *string.ascii_lowercase)
MERGED = tuple(name for name in ALPHANUMERIC if name not in "cijklmopsuvwxyz")
"""Without the small letters that look like their capitals."""
CLOTHES = _lined("T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot")
HIRAGANA = _spaced("o ki su tsu na ha ma ya re wo")
CIFAR10 = _spaced("airplane automobile bird cat deer dog frog horse ship truck")
CIFAR100 = _spaced("""
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
    man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
    pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
    tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
""")
STL10 = _spaced("airplane bird car cat deer dog horse monkey ship truck")
EUROSAT = _spaced(
    "AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop Residential River SeaLake"
)
TRAFFIC_SIGNS = tuple(str(number) for number in range(43))
TEXTURES = _spaced("""
    banded blotchy braided bubbly bumpy chequered cobwebbed cracked crosshatched crystalline dotted fibrous flecked
    freckled frilly gauzy grid grooved honeycombed interlaced knitted lacelike lined marbled matted meshed paisley
    perforated pitted pleated polka-dotted porous potholed scaly smeared spiralled sprinkled stained stratified striped
    studded swirly veined waffled woven wrinkled zigzagged
""")
PETS = _lined("""
    Abyssinian, American Bulldog, American Pit Bull Terrier, Basset Hound, Beagle, Bengal, Birman, Bombay, Boxer,
    British Shorthair, Chihuahua, Egyptian Mau, English Cocker Spaniel, English Setter, German Shorthaired,
    Great Pyrenees, Havanese, Japanese Chin, Keeshond, Leonberger, Maine Coon, Miniature Pinscher, Newfoundland,
    Persian, Pomeranian, Pug, Ragdoll, Russian Blue, Saint Bernard, Samoyed, Scottish Terrier, Shiba Inu, Siamese,
    Sphynx, Staffordshire Bull Terrier, Wheaten Terrier, Yorkshire Terrier
""")
IMAGENETTE = _lined("""
    tench, English springer, cassette player, chain saw, church, French horn, garbage truck, gas pump, golf ball,
    parachute
""")
SENTIMENT = ("negative", "positive")
FOOD = _spaced("""
    apple_pie baby_back_ribs baklava beef_carpaccio beef_tartare beet_salad beignets bibimbap bread_pudding
    breakfast_burrito bruschetta caesar_salad cannoli caprese_salad carrot_cake ceviche cheese_plate cheesecake
    chicken_curry chicken_quesadilla chicken_wings chocolate_cake chocolate_mousse churros clam_chowder club_sandwich
    crab_cakes creme_brulee croque_madame cup_cakes deviled_eggs donuts dumplings edamame eggs_benedict escargots
    falafel filet_mignon fish_and_chips foie_gras french_fries french_onion_soup french_toast fried_calamari fried_rice
    frozen_yogurt garlic_bread gnocchi greek_salad grilled_cheese_sandwich grilled_salmon guacamole gyoza hamburger
    hot_and_sour_soup hot_dog huevos_rancheros hummus ice_cream lasagna lobster_bisque lobster_roll_sandwich
    macaroni_and_cheese macarons miso_soup mussels nachos omelette onion_rings oysters pad_thai paella pancakes
    panna_cotta peking_duck pho pizza pork_chop poutine prime_rib pulled_pork_sandwich ramen ravioli red_velvet_cake
    risotto samosa sashimi scallops seaweed_salad shrimp_and_grits spaghetti_bolognese spaghetti_carbonara spring_rolls
    steak strawberry_shortcake sushi tacos takoyaki tiramisu tuna_tartare waffles
""")
FLOWERS = _lined("""
    pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger lily, moon
    orchid, bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king protea, spear thistle,
    yellow iris, globe-flower, purple coneflower, peruvian lily, balloon flower, giant white arum lily, fire lily,
    pincushion flower, fritillary, red ginger, grape hyacinth, corn poppy, prince of wales feathers, stemless
    gentian, artichoke, sweet william, carnation, garden phlox, love in the mist, mexican aster, alpine sea holly,
    ruby-lipped cattleya, cape flower, great masterwort, siam tulip, lenten rose, barbeton daisy, daffodil, sword
    lily, poinsettia, bolero deep blue, wallflower, marigold, buttercup, oxeye daisy, common dandelion, petunia,
    wild pansy, primula, sunflower, pelargonium, bishop of llandaff, gaura, geranium, orange dahlia, pink-yellow
    dahlia?, cautleya spicata, japanese anemone, black-eyed susan, silverbush, californian poppy, osteospermum,
    spring crocus, bearded iris, windflower, tree poppy, gazania, azalea, water lily, rose, thorn apple, morning
    glory, passion flower, lotus, toad lily, anthurium, frangipani, clematis, hibiscus, columbine, desert-rose,
    tree mallow, magnolia, cyclamen, watercress, canna lily, hippeastrum, bee balm, ball moss, foxglove,
    bougainvillea, camellia, mallow, mexican petunia, bromelia, blanket flower, trumpet creeper, blackberry lily
""")
COUNTRIES = _spaced("""
    AD AE AF AG AI AL AM AO AQ AR AT AU AW AX AZ BA BB BD BE BF BG BH BJ BM BN BO BQ BR BS BT BW BY BZ CA CD CF CH CI
    CK CL CM CN CO CR CU CV CW CY CZ DE DK DM DO DZ EC EE EG ES ET FI FJ FK FO FR GA GB GD GE GF GG GH GI GL GM GP GR
    GS GT GU GY HK HN HR HT HU ID IE IL IM IN IQ IR IS IT JE JM JO JP KE KG KH KN KP KR KW KY KZ LA LB LC LI LK LR LT
    LU LV LY MA MC MD ME MF MG MK ML MM MN MO MQ MR MT MU MV MW MX MY MZ NA NC NG NI NL NO NP NZ OM PA PE PF PG PH PK
    PL PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SS SV SX SY SZ TG TH TJ TL TM TN TO
    TR TT TW TZ UA UG US UY UZ VA VE VG VI VN VU WS XK YE ZA ZM ZW
""")
"""By their ISO 3166 codes, as the set's folders are."""
AIRCRAFT = _lined("""
    707-320, 727-200, 737-200, 737-300, 737-400, 737-500, 737-600, 737-700, 737-800, 737-900, 747-100, 747-200,
    747-300, 747-400, 757-200, 757-300, 767-200, 767-300, 767-400, 777-200, 777-300, A300B4, A310, A318, A319, A320,
    A321, A330-200, A330-300, A340-200, A340-300, A340-500, A340-600, A380, ATR-42, ATR-72, An-12, BAE 146-200, BAE
    146-300, BAE-125, Beechcraft 1900, Boeing 717, C-130, C-47, CRJ-200, CRJ-700, CRJ-900, Cessna 172, Cessna 208,
    Cessna 525, Cessna 560, Challenger 600, DC-10, DC-3, DC-6, DC-8, DC-9-30, DH-82, DHC-1, DHC-6, DHC-8-100,
    DHC-8-300, DR-400, Dornier 328, E-170, E-190, E-195, EMB-120, ERJ 135, ERJ 145, Embraer Legacy 600, Eurofighter
    Typhoon, F-16A/B, F/A-18, Falcon 2000, Falcon 900, Fokker 100, Fokker 50, Fokker 70, Global Express, Gulfstream IV,
    Gulfstream V, Hawk T1, Il-76, L-1011, MD-11, MD-80, MD-87, MD-90, Metroliner, Model B200, PA-28, SR-20, Saab 2000,
    Saab 340, Spitfire, Tornado, Tu-134, Tu-154, Yak-42
""")
CALTECH101 = _spaced("""
    Faces Faces_easy Leopards Motorbikes accordion airplanes anchor ant barrel bass beaver binocular bonsai brain
    brontosaurus buddha butterfly camera cannon car_side ceiling_fan cellphone chair chandelier cougar_body cougar_face
    crab crayfish crocodile crocodile_head cup dalmatian dollar_bill dolphin dragonfly electric_guitar elephant emu
    euphonium ewer ferry flamingo flamingo_head garfield gerenuk gramophone grand_piano hawksbill headphone hedgehog
    helicopter ibis inline_skate joshua_tree kangaroo ketch lamp laptop llama lobster lotus mandolin mayfly menorah
    metronome minaret nautilus octopus okapi pagoda panda pigeon pizza platypus pyramid revolver rhino rooster
    saxophone schooner scissors scorpion sea_horse snoopy soccer_ball stapler starfish stegosaurus stop_sign strawberry
    sunflower tick trilobite umbrella watch water_lilly wheelchair wild_cat windsor_chair wrench yin_yang
""")
SCENES = _spaced("""
    abbey airplane_cabin airport_terminal alley amphitheater amusement_arcade amusement_park anechoic_chamber
    apartment_building/outdoor apse/indoor aquarium aqueduct arch archive arrival_gate/outdoor art_gallery art_school
    art_studio assembly_line athletic_field/outdoor atrium/public attic auditorium auto_factory badlands
    badminton_court/indoor baggage_claim bakery/shop balcony/exterior balcony/interior ball_pit ballroom bamboo_forest
    banquet_hall bar barn barndoor baseball_field basement basilica basketball_court/outdoor bathroom batters_box bayou
    bazaar/indoor bazaar/outdoor beach beauty_salon bedroom berth biology_laboratory bistro/indoor boardwalk boat_deck
    boathouse bookstore booth/indoor botanical_garden bow_window/indoor bow_window/outdoor bowling_alley boxing_ring
    brewery/indoor bridge building_facade bullring burial_chamber bus_interior butchers_shop butte cabin/outdoor
    cafeteria campsite campus canal/natural canal/urban candy_store canyon car_interior/backseat car_interior/frontseat
    carrousel casino/indoor castle catacomb cathedral/indoor cathedral/outdoor cavern/indoor cemetery chalet
    cheese_factory chemistry_lab chicken_coop/indoor chicken_coop/outdoor childs_room church/indoor church/outdoor
    classroom clean_room cliff cloister/indoor closet clothing_store coast cockpit coffee_shop computer_room
    conference_center conference_room construction_site control_room control_tower/outdoor corn_field corral corridor
    cottage_garden courthouse courtroom courtyard covered_bridge/exterior creek crevasse crosswalk cubicle/office dam
    delicatessen dentists_office desert/sand desert/vegetation diner/indoor diner/outdoor dinette/home dinette/vehicle
    dining_car dining_room discotheque dock doorway/outdoor dorm_room driveway driving_range/outdoor drugstore
    electrical_substation elevator/door elevator/interior elevator_shaft engine_room escalator/indoor excavation
    factory/indoor fairway fastfood_restaurant field/cultivated field/wild fire_escape fire_station firing_range/indoor
    fishpond florist_shop/indoor food_court forest/broadleaf forest/needleleaf forest_path forest_road formal_garden
    fountain galley game_room garage/indoor garbage_dump gas_station gazebo/exterior general_store/indoor
    general_store/outdoor gift_shop golf_course greenhouse/indoor greenhouse/outdoor gymnasium/indoor hangar/indoor
    hangar/outdoor harbor hayfield heliport herb_garden highway hill home_office hospital hospital_room hot_spring
    hot_tub/outdoor hotel/outdoor hotel_room house hunting_lodge/outdoor ice_cream_parlor ice_floe ice_shelf
    ice_skating_rink/indoor ice_skating_rink/outdoor iceberg igloo industrial_area inn/outdoor islet jacuzzi/indoor
    jail/indoor jail_cell jewelry_shop kasbah kennel/indoor kennel/outdoor kindergarden_classroom kitchen kitchenette
    labyrinth/outdoor lake/natural landfill landing_deck laundromat lecture_room library/indoor library/outdoor
    lido_deck/outdoor lift_bridge lighthouse limousine_interior living_room lobby lock_chamber locker_room mansion
    manufactured_home market/indoor market/outdoor marsh martial_arts_gym mausoleum medina moat/water monastery/outdoor
    mosque/indoor mosque/outdoor motel mountain mountain_snowy movie_theater/indoor museum/indoor music_store
    music_studio nuclear_power_plant/outdoor nursery oast_house observatory/outdoor ocean office office_building
    oil_refinery/outdoor oilrig operating_room orchard outhouse/outdoor pagoda palace pantry park parking_garage/indoor
    parking_garage/outdoor parking_lot parlor pasture patio pavilion pharmacy phone_booth physics_laboratory
    picnic_area pilothouse/indoor planetarium/outdoor playground playroom plaza podium/indoor podium/outdoor pond
    poolroom/establishment poolroom/home power_plant/outdoor promenade_deck pub/indoor pulpit putting_green racecourse
    raceway raft railroad_track rainforest reception recreation_room residential_neighborhood restaurant
    restaurant_kitchen restaurant_patio rice_paddy riding_arena river rock_arch rope_bridge ruin runway sandbar sandbox
    sauna schoolhouse sea_cliff server_room shed shoe_shop shopfront shopping_mall/indoor shower skatepark ski_lodge
    ski_resort ski_slope sky skyscraper slum snowfield squash_court stable stadium/baseball stadium/football
    stage/indoor staircase street subway_interior subway_station/platform supermarket sushi_bar swamp
    swimming_pool/indoor swimming_pool/outdoor synagogue/indoor synagogue/outdoor television_studio temple/east_asia
    temple/south_asia tennis_court/indoor tennis_court/outdoor tent/outdoor theater/indoor_procenium
    theater/indoor_seats thriftshop throne_room ticket_booth toll_plaza topiary_garden tower toyshop track/outdoor
    train_railway train_station/platform tree_farm tree_house trench underwater/coral_reef utility_room valley
    van_interior vegetable_garden veranda veterinarians_office viaduct videostore village vineyard volcano
    volleyball_court/indoor volleyball_court/outdoor waiting_room warehouse/indoor water_tower waterfall/block
    waterfall/fan waterfall/plunge watering_hole wave wet_bar wheat_field wind_farm windmill wine_cellar/barrel_storage
    wine_cellar/bottle_storage wrestling_ring/indoor yard youth_hostel
""")
TISSUE = ("normal", "tumor")
